"""Which earlier token a token is most like: the last one of its id after the same ids, as many as can be.

What a layer holds of a token depends on the token and on what came before it, so an earlier occurrence
foretells it, and the better, the longer both were preceded by the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]

DEPTHS = 5
"""Lengths of common runs that are told apart, the token itself included."""


@dataclass(frozen=True, eq=False)
class Echo:
    """of int64 [N]: an earlier token, or −1;  depth uint8 [N]: tokens before both that are the same."""

    of: Whole
    depth: npt.NDArray[np.uint8]

    def among(self, source: Whole) -> Echo:
        """The same among the tokens that lead themselves; an echo of another is one of its leader."""
        written = source == np.arange(len(source))
        rank = np.cumsum(written) - 1
        of = np.where(self.of >= 0, rank[source[self.of]], -1)
        return Echo(of[written], self.depth[written])


def find(ids: Whole) -> Echo:
    """The echoes of ids [N].

    Cost     DEPTHS sorts of N
    """
    n = len(ids)
    of, depth = np.full(n, -1), np.zeros(n, np.uint8)
    _, one = np.unique(ids, return_inverse=True)
    run = one.astype(np.int64)
    for d in range(DEPTHS):
        if d:
            # A run is the run before it and one more token; a token too near the start has no such run.
            pairs = np.concatenate([np.full(min(n, 1), -1), run[:-1] * (n + 1) + one[1:]])
            pairs[:d] = -1 - np.arange(min(d, n))
            _, run = np.unique(pairs, return_inverse=True)
        order = np.argsort(run, kind="stable")
        again = run[order[1:]] == run[order[:-1]]
        of[order[1:][again]] = order[:-1][again]
        depth[order[1:][again]] = d
    return Echo(of, depth)
