"""Keys as sums of codewords that turn like keys: turned or not, the code is the same.

Pairs       of channels that the rotary embedding turns together are complex numbers; a row of D channels is
            held as its D/2 real parts, then its imaginary ones, and i·x is (−imaginary, real)
Codewords   c_A + i·c_B for any two of a table's n rows: n² of them in every stage. A code is A·n + B of all
            stages. Times e^{iφ}, pair by pair, a codeword is that of the table times e^{iφ}
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops.fast import search
from keyvalise.types.geometry import Rope

LINES = 64
"""Rows of a table, unless it has others."""

AT_ONCE = 2**20
"""Distances that are held at a time."""

PATHS = 4
"""Sums that a search hands from stage to stage."""


def order(dim: int, rope: Rope | None) -> list[int]:
    """The channels, real parts first; those that are not turned are paired among themselves."""
    # Keys that a transform has made smaller have no pairs of the model's any more.
    width = 0 if rope is None or rope.width > dim else rope.width
    if rope is not None and rope.is_interleaved:
        parts = [*range(0, width, 2)], [*range(1, width, 2)]
    else:
        parts = [*range(width // 2)], [*range(width // 2, width)]
    middle = (width + dim) // 2
    return [*parts[0], *range(width, middle), *parts[1], *range(middle, dim)]


def paired(x: Tensor, rope: Rope | None) -> Tensor:
    """A row's real parts, then its imaginary ones."""
    return x[..., torch.tensor(order(x.shape[-1], rope), device=x.device)]


def unpaired(x: Tensor, rope: Rope | None) -> Tensor:
    """The channels in the model's order again."""
    back = torch.tensor(order(x.shape[-1], rope), device=x.device).argsort()
    return x[..., back]


def turned_once(x: Tensor) -> Tensor:
    """i·x."""
    real, imaginary = x.chunk(2, -1)
    return torch.cat([-imaginary, real], -1)


def parts(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What every codeword's distance is made of: ⟨x, c_A⟩ [M, n], ⟨x, i·c_B⟩ [M, n] and ‖c‖² [n, n].

    Formula  ‖x − c‖² = ‖x‖² − 2·⟨x, c_A⟩ − 2·⟨x, i·c_B⟩ + ‖c‖² with c = c_A + i·c_B
    """
    other = turned_once(table)
    size = table.square().sum(-1)
    return x @ table.T, x @ other.T, size[:, None] + size + 2 * table @ other.T


def distances(x: Tensor, table: Tensor) -> Tensor:
    """‖x − c‖² for every codeword, [M, n, n]."""
    real, turned, size = parts(x, table)
    return x.square().sum(-1)[:, None, None] - 2 * (real[:, :, None] + turned[:, None]) + size


def word(codes: Tensor, table: Tensor) -> Tensor:
    """The codewords: int [M] → [M, D]."""
    n = len(table)
    return table[codes // n] + turned_once(table[codes % n])


def encode(x: Tensor, tables: Tensor, beam: int = PATHS) -> Tensor:
    """The codewords of all stages whose sum is nearest, among those that a search meets which hands the
    `beam` nearest sums from stage to stage.

    Shapes   x [M, D], tables [R, n, D] → int64 [M, R]
    Reduces to each stage's nearest codeword to what those before it left for beam = 1
    """
    if search.available(x):
        other = turned_once(tables)
        size = tables.square().sum(-1)
        sizes = size[:, :, None] + size[:, None] + 2 * tables @ other.mT
        return search.words(x, tables, other, sizes, beam)
    rows = max(1, AT_ONCE // (beam * tables.shape[1] ** 2))
    found = [_search(part, tables, beam) for part in x.split(rows)]
    return torch.cat(found) if found else torch.empty(0, len(tables), dtype=torch.long, device=x.device)


def _search(x: Tensor, tables: Tensor, beam: int) -> Tensor:
    rest, codes = x[:, None], torch.empty(len(x), 1, 0, dtype=torch.long, device=x.device)
    for table in tables:
        n_words, n_paths = len(table) ** 2, rest.shape[1]
        apart = distances(rest.flatten(0, 1), table).view(len(x), -1)
        best = apart.topk(min(beam, n_paths * n_words), 1, largest=False).indices
        path, code = best // n_words, best % n_words
        rest = rest.gather(1, path[..., None].expand(-1, -1, x.shape[1])) - word(code, table)
        codes = torch.cat(
            [codes.gather(1, path[..., None].expand(-1, -1, codes.shape[2])), code[..., None]], 2
        )
    return codes[:, 0]


def decode(codes: Tensor, tables: Tensor, heads: Tensor) -> Tensor:
    """The sums of codewords, every row with its head's tables.

    Shapes   codes int [N, R], tables [H, R', n, D] with R' ≥ R, heads int64 [N] → float32 [N, D]
    """
    n_stages, n = tables.shape[1:3]
    flat = tables.flatten(0, 2)
    real = torch.zeros(len(codes), tables.shape[-1], device=codes.device)
    turned = torch.zeros_like(real)
    for stage in range(codes.shape[1]):
        first, code = (heads * n_stages + stage) * n, codes[:, stage]
        real += flat[first + code // n]
        turned += flat[first + code % n]
    return real + turned_once(turned)


def logits(q: Tensor, codes: Tensor, tables: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """q·R(position)·x̂ of one head, looked up: what a query has with every row of the tables, found once, is
    gathered, summed, and turned once.

    Shapes   q [Q, D] turned and paired, codes int [N, R], tables [R, n, D], angles cos, sin [N, D/2] → [Q, N]
    Formula  z[r, a] = conj(q)·c_{r,a};  Σ_pairs Re(e^{iφ}·Σ_r (z[r, A_r] + i·z[r, B_r]))
    """
    n = tables.shape[1]
    table = torch.complex(*tables.float().chunk(2, -1))
    found = torch.complex(*q.float().chunk(2, -1)).conj()[:, None, None] * table
    total = torch.zeros((len(q), len(codes), found.shape[-1]), dtype=found.dtype, device=q.device)
    for stage in range(codes.shape[1]):
        code = codes[:, stage]
        total += found[:, stage, code // n] + 1j * found[:, stage, code % n]
    return (torch.complex(*angles) * total).real.sum(-1)
