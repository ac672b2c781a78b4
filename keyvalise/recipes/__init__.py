"""One file per published system: a line of parts under an essay."""
