"""Attention of a few queries, and attention mass, on a CUDA device, in Triton."""
