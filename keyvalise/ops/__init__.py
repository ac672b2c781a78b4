"""Pure tensor mathematics: nothing here has heard of caches, recipes or models."""
