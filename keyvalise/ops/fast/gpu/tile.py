"""What kernels do with a tile: read entries, as they are stored or written, and multiply.

Axes   R queries, N entries, W lanes, see `lanes`
"""

from __future__ import annotations

from keyvalise.ops.fast.gpu import whole, words
from keyvalise.ops.fast.gpu.lanes import channels
from keyvalise.ops.fast.gpu.language import IS_INTERPRETED, NARROW, SUMS, constexpr, jit, tl


@jit
def read(side, row, head, entry, live, SHAPE: constexpr):  # type: ignore[no-untyped-def]
    """[N, W] of the entries int64 [N] that are live, zero elsewhere; as stored, or float32 of codes."""
    if side.words is not None:
        found = words.spell(side, head, entry, live, SHAPE)
    elif side.pairs is not None:
        found = whole.spell(side, entry, live, SHAPE)
    else:
        channel, is_channel = channels(SHAPE)
        mask = live[:, None] & is_channel[None, :]
        at = side.at + row * side.row + head * side.head + (entry * side.entry)[:, None]
        found = tl.load(at + channel[None, :], mask=mask, other=0.0)
    return found


@jit
def matrix(a, b, PRODUCT: constexpr):  # type: ignore[no-untyped-def]
    """a·b, float32."""
    if PRODUCT == NARROW and not IS_INTERPRETED:
        found = tl.dot(a, b)
    else:
        found = tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="tf32x3")
    return found


@jit
def logits(q, k, logw, scale, softcap, PRODUCT: constexpr):  # type: ignore[no-untyped-def]
    """[R, N] of queries [R, W], keys [N, W] and log-weights [N]; the soft cap may be None."""
    if PRODUCT == SUMS:
        x = tl.sum(q.to(tl.float32)[:, None, :] * k.to(tl.float32)[None, :, :], 2)
    else:
        x = matrix(q, tl.trans(k), PRODUCT)
    x = x * scale
    if softcap is not None:
        x = softcap * tanh(x / softcap)
    return x + logw[None, :]


@jit
def tanh(x):  # type: ignore[no-untyped-def]
    """Hyperbolic tangent, without overflow and without cancellation near zero."""
    far = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - far) / (1.0 + far)
    near = x * (1.0 - x * x / 3.0)
    return tl.where(tl.abs(x) < 0.03, near, tl.where(x < 0.0, -far, far))


@jit
def weighted(p, v, PRODUCT: constexpr):  # type: ignore[no-untyped-def]
    """[R, W] of weights [R, N] and values [N, W]."""
    if PRODUCT == SUMS:
        found = tl.sum(p[:, :, None] * v.to(tl.float32)[None, :, :], 1)
    elif PRODUCT == NARROW:
        # One 16-bit number would hold half the digits of a weight; two float16 or three bfloat16 hold all.
        high = p.to(v.dtype)
        rest = p - high.to(tl.float32)
        low = rest.to(v.dtype)
        found = matrix(high, v, PRODUCT) + matrix(low, v, PRODUCT)
        if v.dtype == tl.bfloat16:
            found += matrix((rest - low.to(tl.float32)).to(tl.bfloat16), v, PRODUCT)
    else:
        found = matrix(p, v, PRODUCT)
    return found


@jit
def ask(q, at, is_real, SHAPE: constexpr):  # type: ignore[no-untyped-def]
    """[R, W]: the queries `at` that are real, zero elsewhere, whatever lies there."""
    channel, is_channel = channels(SHAPE)
    mask = is_real[:, None] & is_channel[None, :]
    return tl.load(q + (at * SHAPE.dim)[:, None] + channel[None, :], mask=mask, other=0.0)


@jit
def answer(out, at, is_real, x, SHAPE: constexpr):  # type: ignore[no-untyped-def]
    """Write the rows of x [R, W] that are real where `at` says."""
    channel, is_channel = channels(SHAPE)
    mask = is_real[:, None] & is_channel[None, :]
    tl.store(out + (at * SHAPE.dim)[:, None] + channel[None, :], x, mask=mask)


@jit
def log_weights(logw, row, head, entry, live):  # type: ignore[no-untyped-def]
    """[N]: the log-weights of entries that are live, and who remains so: −inf hides whatever is stored."""
    if logw is None:
        w = tl.zeros(entry.shape, tl.float32)
    else:
        w = tl.load(logw.at + row * logw.row + head * logw.head + entry, mask=live, other=0.0)
        live = live & (w != float("-inf"))
    return w, live
