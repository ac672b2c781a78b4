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

LAYOUT = struct.Struct(f"={len(WHOLE)}q{len(SCALARS)}f{len(SCALARS) % 2 * 4}x")
"""How the fields follow one another; then come int64 counters: blocks taken, parts done per run. They lie at
multiples of eight bytes: not every processor counts in one step elsewhere.
"""

WEIGHING = ("x", "shift", "norms", "out", "came", "newest", "logw")
"""What is told who weighs logits, int64: addresses, 0 = not given. x float32 [lists, R, n_entries], scratch;
shift [lists, R]; norms [lists, R, 2]; out [lists, per, …], came and logw [lists, …] with n_all to a list;
newest [lists, n_queries]."""

WEIGHED = ("n_lists", "n_rows", "n_queries", "n_entries", "n_all", "per")
"""Counts, int64; then the soft cap, float64, 0 being none, and a counter of items taken."""

COMPARING = ("x", "centres", "less", "own", "found", "n_sets", "n", "dim", "n_blocks")
"""What is told who compares vectors with centres, int64: addresses, then counts. x float32 [sets, n, dim];
centres in blocks, of which a set has n_blocks, see `nearest`; own int64 and found float32 [sets, n]. Then a
counter of items taken."""

CHOOSING = ("asked", "sizes", "edges", "found", "counts", "n_lists", "n_each", "n_units")
"""What is told who chooses units, int64: addresses, then counts; n_each: logits or amounts of a list. Then a
counter of lists taken."""
