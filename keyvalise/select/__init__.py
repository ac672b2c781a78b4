"""Which entries stay, given how many."""
