"""The records that tell workers what to answer and where; shared by Python and compiled code."""

from __future__ import annotations

import struct

ADDRESSES = ("out", "lse", "q", "k", "v", "parts", "visible", "lengths", "offsets", "logw", "index")
"""Where things lie; 0 = not given. parts float32 [blocks, R, Dv + 2], R = group · n_queries, rows in whole
lines, is scratch for runs of several blocks. index int32: where every entry of the flat runs is stored."""

SIZES = ("itemsize", "group", "n_queries", "key_dim", "value_dim", "block")
"""Counts; entries are read in blocks of `block`."""

RUNS = ("n_lists", "n_heads", "n_entries", "n_stored")
"""Counts; n_lists = B·H runs of entries. n_entries of a run, or flat of all: an index picks them among
n_stored."""

STRIDES = tuple(f"{x}_{axis}" for x in "kv" for axis in ("row", "head", "entry", "channel"))
"""Elements from one row, head, entry, channel of k and v to the next; the last is 1."""

LOOSE_STRIDES = ("logw_row", "logw_head", "visible_row", "visible_head")
"""Elements from one row or head to the next; 0 where one serves all."""

SPELLING = tuple(f"{x}_{what}" for x in "kv" for what in ("scales", "rows", "bits", "groups", "run"))
"""Of integers: where their steps and offsets lie, where each entry's row of them is said (0 = nowhere), bits
per number, groups of channels, entries that share a row. Then an item is a byte."""

LINE = 16
"""float32 of a cache line."""

WORDS = 256
"""Codewords of a book, each named by a byte."""

WORDING = tuple(f"{x}_{what}" for x in "kv" for what in ("books", "lengths", "pieces", "size"))
"""Of names: where float16 books and lengths lie (0 = no lengths), names of an entry, numbers of a codeword.
Then an item is a byte."""

TURNING = ("positions", "frequencies", "n_angles", "is_interleaved")
"""Where int32 positions of all that is stored lie, by which keys are turned, and float32 frequencies; of no
angles: not at all."""

SCALARS = ("scale", "softcap", "turn_scaling")
"""float32; a soft cap of 0 is none."""

OF_CODES = (*SPELLING, *WORDING, *TURNING)

WHOLE = (*ADDRESSES, *SIZES, *RUNS, *STRIDES, *LOOSE_STRIDES, *OF_CODES)

LAYOUT = struct.Struct(f"={len(WHOLE)}q{len(SCALARS)}f")
"""How the fields follow one another; then come int64 counters: blocks taken, parts done per run."""

CHOOSING = ("asked", "sizes", "edges", "found", "counts", "n_lists", "n_each", "n_units")
"""What is told who chooses units, int64: addresses, then counts; n_each: logits or amounts of a list. Then a
counter of lists taken."""
