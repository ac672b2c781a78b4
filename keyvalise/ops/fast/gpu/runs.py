"""Where the entries of a list lie, and which items of work they fall into.

Items   n_chunks for every list; flat lists have theirs from offsets[l] // chunk + l on, so that each has room
        for its chunks, wherever it begins and however long it is. The host need not know; some items are
        nobody's.
"""

from __future__ import annotations

from keyvalise.ops.fast.gpu.language import constexpr, jit, tl


@jit
def extent(lists, which, cut):  # type: ignore[no-untyped-def]
    """The first entry of a list, and how many it has."""
    if lists.offsets is None:
        first = 0
        n = cut.n_entries
        if lists.lengths is not None:
            n = tl.minimum(n, tl.load(lists.lengths + which // lists.n_heads))
    else:
        first = tl.load(lists.offsets + which)
        n = tl.load(lists.offsets + which + 1) - first
    return first, n


@jit
def items(lists, which, cut):  # type: ignore[no-untyped-def]
    """The first item of a list."""
    if lists.offsets is None:
        item = which * cut.n_chunks
    else:
        item = tl.load(lists.offsets + which) // cut.chunk + which
    return item


@jit
def owner(lists, item, cut, LISTS: constexpr):  # type: ignore[no-untyped-def]
    """The list that an item belongs to."""
    if lists.offsets is None:
        which = item // cut.n_chunks
    else:
        i = tl.arange(0, LISTS)
        begin = tl.load(lists.offsets + i, mask=i < lists.n_lists, other=0) // cut.chunk + i
        n_begun = tl.sum(((begin <= item) & (i < lists.n_lists)).to(tl.int32))
        which = tl.maximum(n_begun - 1, 0)
    return which


@jit
def sight(asked, row, head, r, n):  # type: ignore[no-untyped-def]
    """How many of a list's n entries every query [R] sees, the most and the least of them; rows without a
    query see nothing.
    """
    limit = tl.where(r < asked.n_rows, n, 0)
    if asked.visible is not None:
        at = asked.visible.at + row * asked.visible.row + head * asked.visible.head + r % asked.n_queries
        limit = tl.minimum(limit, tl.load(at, mask=r < asked.n_rows, other=0))
    return limit, tl.max(limit), tl.min(tl.where(r < asked.n_rows, limit, n))
