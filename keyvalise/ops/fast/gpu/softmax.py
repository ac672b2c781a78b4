"""A softmax that is never held whole: its largest logit so far, its sum, and the values it has weighed.

LIFT is added to logits before the exponential, so that small weights stay above the smallest 16-bit number.
"""

from __future__ import annotations

from keyvalise.ops.fast.gpu import tile
from keyvalise.ops.fast.gpu.language import SUMS, constexpr, jit, tl


@jit
def weigh(top, total, x, n, LIFT: constexpr):  # type: ignore[no-untyped-def]
    """Logits [R, N], −inf where a query does not see an entry, each n times → the new largest logit and sum,
    the weights [R, N], and what the old answer counts beside them.
    """
    largest = tl.maximum(top, tl.max(x, 1))
    # Where nothing is seen yet, −inf − (−inf) would be no number.
    base = tl.where(largest == float("-inf"), 0.0, largest)
    p = tl.exp(x - base[:, None] + LIFT) * n
    fade = tl.exp(top - base)
    return largest, total * fade + tl.sum(p, 1), p, fade


@jit
def take(acc, p, v, sees, is_equal, PRODUCT: constexpr):  # type: ignore[no-untyped-def]
    """acc + p·v; is_equal says whether all queries see the same entries."""
    if is_equal:
        acc += tile.weighted(p, v, PRODUCT)
    else:
        # A weight of zero does not hide what is no number, so queries that see one are told apart.
        is_number = tl.abs(v.to(tl.float32)) < float("inf")
        acc += tile.weighted(p, tl.where(is_number, v, 0.0).to(v.dtype), PRODUCT)
        lost = tl.where(is_number, 0.0, 1.0).to(v.dtype)
        if PRODUCT == SUMS:
            n_lost = tile.weighted(sees.to(tl.float32), lost, PRODUCT)
        else:
            n_lost = tile.matrix(sees.to(tl.float32).to(v.dtype), lost, PRODUCT)
        acc = tl.where(n_lost > 0.0, float("nan"), acc)
    return acc


@jit
def share(acc, total):  # type: ignore[no-untyped-def]
    """What was weighed, in parts of the sum; zero where nothing was seen."""
    return acc / tl.where(total == 0.0, 1.0, total)[:, None]


@jit
def norm(top, total, LIFT: constexpr):  # type: ignore[no-untyped-def]
    """The log-sum-exp; −inf where nothing was seen."""
    is_empty = total == 0.0
    # The small numbers first: a large logit would swallow their last digits.
    return tl.where(is_empty, float("-inf"), top + (tl.log(tl.where(is_empty, 1.0, total)) - LIFT))
