"""What names of codewords stand for: read from books, side by side or added up, then turned.

Axes   N entries, W lanes, see `lanes`
Cost   a lane that turns reads its pair's channel as well; books are small enough to stay in caches
"""

from __future__ import annotations

from keyvalise.ops.fast.gpu import lanes, turning
from keyvalise.ops.fast.gpu.language import WORDS, constexpr, jit, tl


@jit
def spell(side, head, entry, live, SHAPE: constexpr):  # type: ignore[no-untyped-def]
    """float32 [N, W] of the entries int64 [N] of a kv head that are live."""
    channel, _ = lanes.channels(SHAPE)
    names = side.at + entry * side.entry
    book = side.words.books + head * (SHAPE.pieces * WORDS * SHAPE.size)
    found = named(names, book, live, channel, SHAPE)
    if side.words.turn is not None:
        pair = named(names, book, live, turning.pair(channel, SHAPE), SHAPE)
        found = turning.turned(found, pair, side.words.turn, entry, live, SHAPE)
    if side.words.lengths is not None:
        length = tl.load(side.words.lengths + entry, mask=live, other=0.0)
        found = found * length.to(tl.float32)[:, None]
    return found


@jit
def named(names, book, live, channel, SHAPE: constexpr):  # type: ignore[no-untyped-def]
    """float32 [N, W]: a channel for every lane of what the names at addresses [N] stand for."""
    _, is_channel = lanes.channels(SHAPE)
    mask = live[:, None] & is_channel[None, :]
    if SHAPE.size == SHAPE.dim:
        found = tl.zeros(mask.shape, tl.float32)
        for j in range(SHAPE.pieces):
            name = tl.load(names + j, mask=live, other=0).to(tl.int32)
            word = book + ((name + j * WORDS) * SHAPE.dim)[:, None] + channel[None, :]
            found += tl.load(word, mask=mask, other=0.0).to(tl.float32)
    else:
        piece, within = channel // SHAPE.size, channel % SHAPE.size
        name = tl.load(names[:, None] + piece[None, :], mask=mask, other=0).to(tl.int32)
        word = book + (piece[None, :] * WORDS + name) * SHAPE.size + within[None, :]
        found = tl.load(word, mask=mask, other=0.0).to(tl.float32)
    return found
