"""Training scripts; they may use the reference model's parts, nothing imports them."""
