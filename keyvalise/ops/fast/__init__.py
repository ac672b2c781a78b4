"""The same names as `ops`, faster; each is proven against its namesake. Compilers are imported on first use."""
