"""Keys per channel, values per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from keyvalise.ops import affine, pack
from keyvalise.types.argument import arg
from keyvalise.types.code import Codes, Home, Side, Where
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.written import Integers


@dataclass(frozen=True, slots=True)
class KiviEncode:
    """Keys share step and offset per channel over `group` tokens, values per token over `group` channels.

    Shapes     keys [N, D], values [N, Dv], N = M·group → entry tensors: "keys" uint8 [N, ⌈D·bits/8⌉],
               "values" likewise, "scales_values" float16 [N, ⌈Dv/group⌉, 2] (step, offset); group tensor:
               "scales_keys" float16 [M, D, 2]
    Formula    x̂ = offset + step·q, q = round((x − offset)/step), offset = min,
               step = (max − min)/(2^bits − 1); keys: over the group's tokens in one channel; values: over a
               token's groups of channels
    Units      group: tokens for keys, channels for values (at most the head); residual: the most tokens per
               kv head that stay raw
    Cost       ⌈D·bits/8⌉ + ⌈Dv·bits/8⌉ + 4·⌈Dv/group⌉ + 4·D/group bytes per entry; N·(D + Dv) time each way
    Phase      once per entry; a whole group leaves the raw tail at a time
    Reduces to raw entries for residual ≥ tokens
    Differs    key and value of a token leave the raw window together, with the key's group (in the paper
               values leave one by one). Residual shrinks in whole groups where a budget asks. Parameters are
               float16: numbers beyond ±65504 are written as ±65504, a group narrower than 2⁻¹⁰ of its size
               is constant. Where entries of a group are dropped one by one, its parameters stay until the
               last one leaves.
    Paper      Liu et al. 2024, arXiv 2402.02750            Confidence  official code
    """

    bits: int = arg(2, choices=(2, 4, 8), doc="bits per number")
    group: int = arg(
        32, low=1, doc="tokens that share a channel of keys; most channels that share in a value"
    )
    residual: int = arg(128, low=0, doc="most tokens per kv head that stay raw")

    name: ClassVar[str] = "kivi"
    room: ClassVar[str] = "encode"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side] = "post"

    def check(self, geometry: Geometry) -> None:
        """Any group fits: over channels it is cut to the head size."""

    def bytes_per_entry(self, geometry: Geometry) -> float:
        codes = pack.width(geometry.key_dim, self.bits) + pack.width(geometry.value_dim, self.bits)
        own = codes + 4 * affine.n_groups(geometry.value_dim, self.group)
        return own + self.group_bytes(geometry) / self.group

    def group_bytes(self, geometry: Geometry) -> int:
        return 4 * geometry.key_dim

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        tokens = keys.float().view(-1, self.group, keys.shape[1])
        scales_k = affine.fit(tokens, self.bits, dim=1)
        codes = affine.quantize(tokens, scales_k[:, None, :, 0], scales_k[:, None, :, 1], self.bits)
        v, scales_v = affine.encode_rows(values, self.bits, self.group)
        k = pack.pack(codes.view(keys.shape), self.bits)
        return Codes({"keys": k, "values": v, "scales_values": scales_v}, {"scales_keys": scales_k})

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        entry, dim = codes.entry, env.geometry.key_dim
        k = pack.unpack(entry["keys"], self.bits, dim)
        scales = codes.group["scales_keys"]
        if where.group_of is None:
            step, offset = scales[:, None, :, 0], scales[:, None, :, 1]
            keys = affine.dequantize(k.view(-1, self.group, dim), step, offset).view(k.shape)
        else:
            scales = scales[where.group_of]
            keys = affine.dequantize(k, scales[..., 0], scales[..., 1])
        values = affine.decode_rows(
            entry["values"], entry["scales_values"], self.bits, env.geometry.value_dim
        )
        return keys.to(dtype), values.to(dtype)

    def integers(self, env: Env, codes: Codes, group_of: Tensor | None) -> tuple[Integers, Integers]:
        entry, shape, of_keys = codes.entry, env.geometry, codes.group["scales_keys"]
        keys = Integers(entry["keys"], of_keys, self.bits, shape.key_dim, self.group, group_of)
        return keys, Integers(entry["values"], entry["scales_values"], self.bits, shape.value_dim)
