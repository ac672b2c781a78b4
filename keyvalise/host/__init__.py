"""The seam to transformers: below this floor nobody has heard of it."""
