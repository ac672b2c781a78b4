"""The same names as `ops`, faster; each is proven against its namesake. Compilers load on first use."""
