"""What is remembered of what flowed by: statistics of a layer and columns of its entries."""
