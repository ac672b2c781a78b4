"""The one record that tells every worker what to answer and where; shared by Python and compiled code."""

from __future__ import annotations

import struct

ADDRESSES = ("parts", "out", "lse", "q", "k", "v", "logw", "visible", "lengths", "offsets")
"""Where things lie; 0 = not given. parts float32 [blocks, R, Dv + 2] is scratch, R = group · n_queries."""

SIZES = ("n_lists", "n_heads", "group", "n_queries", "n_entries", "key_dim", "value_dim", "block")
"""Counts; n_lists = B·H runs of entries, of which each is read in blocks of `block` entries."""

STRIDES = ("k_row", "k_head", "k_entry", "v_row", "v_head", "v_entry")
"""Bytes from one row, head, entry to the next."""

LOOSE_STRIDES = ("logw_row", "logw_head", "visible_row", "visible_head")
"""Numbers from one row or head to the next; 0 where one serves all."""

SCALARS = ("scale", "softcap")
"""float32; a soft cap of 0 is none."""

WHOLE = (*ADDRESSES, *SIZES, *STRIDES, *LOOSE_STRIDES)

LAYOUT = struct.Struct(f"={len(WHOLE)}q{len(SCALARS)}f")
"""How the fields follow one another; behind them lie int64 counters: blocks taken, then parts done per run."""
