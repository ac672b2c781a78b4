"""How the entries that stay are written: in how many bits, with which parameters shared among whom."""
