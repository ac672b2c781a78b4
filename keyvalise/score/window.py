"""What the last queries attend to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.observe.window import WindowObserver
from keyvalise.ops import mass
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class WindowScore:
    """Attention that the last n queries pay to every entry, averaged over those queries.

    Shapes     → [B, Hq, T] float32, "mass"
    Formula    s_ht = mean_s softmax_t(scale·q_hs·k_t + logw_t), query s seeing the live entries up to its
               ordinal
    Cost       Hq·n·T·D time; Hq·n·T floats, in blocks of kv heads of at most 256 MiB
    Needs      queries, keys; WindowObserver(n)
    Phase      prompt and decode                            Scope  layer
    Reduces to the newest query's attention for n = 1 (TOVA with layer(mean)); to the ranking by accumulated
               mass over a prompt when n is the whole prompt (H2O)
    Differs    SnapKV sums where this takes the mean, which changes no ranking. SnapKV leaves the window's own
               columns out before it pools; here they have scores and are protected by drop(recent=n), so that
               pool lets them reach size // 2 entries back. A row with fewer than n queries uses those it has.
               The softmax spans the entries that are still held.
    Paper      Li et al. 2024, arXiv 2404.14469; Oren et al. 2024, arXiv 2401.06104    Confidence  official
               code
    """

    n: int = arg(32, low=1, doc="queries that vote", is_window=True)

    name: ClassVar[str] = "window"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"queries:piece", "keys"})
    gives: ClassVar[frozenset[str]] = frozenset({"scores:mass", "scores:positive"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (WindowObserver(self.n),)

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        window = WindowObserver(self.n)
        q, ordinals = stats[window.q_name], stats[window.ordinals_name]
        return Scores(mass.window_mass(env.geometry, q, ordinals, entries), "mass")
