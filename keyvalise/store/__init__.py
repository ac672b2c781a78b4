"""Segments and what they are kept in: tails, ragged runs, coded runs, null segments, and the ledger."""
