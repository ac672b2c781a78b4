"""Bases of every layer and kv head: what keys and values mostly are (svd), what queries see of keys
(lean).

Formula    second moments of keys and values, less their means, and of the queries of a head's group, added up
           over all tokens of all texts in float64; then ops.project
Units      a step is one text
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import project
from keyvalise.store.asset import Asset
from keyvalise.train.job import Job
from keyvalise.train.readings import Reading
from keyvalise.types.errors import InputError

Sums = dict[str, Tensor]


def basis(job: Job) -> Asset:
    """Directions for the transform `svd`."""
    sums = _collect(job)
    made: dict[str, Tensor] = {}
    axes: dict[str, list[str]] = {}
    kept: dict[str, list[float]] = {}
    for name in ("keys", "values"):
        mean, covariance = _moments(sums, name)
        directions = project.principal(covariance)
        made |= {f"{name}_mean": mean.float(), f"{name}_basis": directions.float()}
        axes |= _axes(job, name)
        energy = torch.linalg.eigvalsh(covariance).flip(-1).clamp(min=0).sum(1)
        share = energy[:, : energy.shape[-1] // 2].sum(-1) / energy.sum(-1)
        kept[name] = [round(float(x), 6) for x in share]
    return job.asset(made, axes, {"vectors": int(sums["n"]), "kept_in_half": kept})


def lean(job: Job) -> Asset:
    """Projections for the transform `lean`.

    Raises   InputError behind another transform than the mean: queries are as the model asks them
    """
    others = [part.name for part in job.reader.before if part.name != "center"]
    if others:
        raise InputError(
            f"{job.part.name} learns from queries as the model asks them, and {others[0]} stands before it; "
            f"put {others[0]} behind it"
        )
    sums = _collect(job)
    mean, of_keys = _moments(sums, "keys")
    queries = sums["queries_square"] / (sums["n"] * job.reader.geometry.group)
    if job.part.solver == "closed":
        a, b = project.lean(queries, of_keys)
    else:
        inner = job.part.shape(job.reader.geometry)
        a, b = project.frank_wolfe(queries, of_keys, inner.key_dim)
    value_mean, of_values = _moments(sums, "values")
    made = {
        "of_queries": a.float(),
        "of_keys": b.float(),
        "keys_mean": mean.float(),
        "values_basis": project.principal(of_values).float(),
        "values_mean": value_mean.float(),
    }
    both = ["layer", "head", job.axis("keys"), "rank"]
    axes = {"of_queries": both, "of_keys": both, "keys_mean": both[:3], **_axes(job, "values")}
    return job.asset(made, axes, {"vectors": int(sums["n"]), "error": _errors(made, queries, of_keys)})


def _collect(job: Job) -> Sums:
    """Sums over all tokens: "n", and of keys, values and queries."""
    shape, n_layers = job.reader.geometry, len(job.reader.layers)
    heads, dims = (n_layers, shape.n_kv_heads), {"keys": shape.key_dim, "values": shape.value_dim}
    sums: Sums = {"n": torch.zeros((), dtype=torch.float64)}
    for name, dim in dims.items():
        sums[f"{name}_sum"] = torch.zeros(*heads, dim, dtype=torch.float64)
        sums[f"{name}_square"] = torch.zeros(*heads, dim, dim, dtype=torch.float64)
    sums["queries_square"] = torch.zeros_like(sums["keys_square"])

    def take(layer: int, reading: Reading) -> None:
        group = reading.queries.unflatten(0, (shape.n_kv_heads, -1)).flatten(1, 2)
        asked = {"queries": group} if job.part.name == "lean" else {}
        for name, x in {"keys": reading.keys, "values": reading.values, **asked}.items():
            x = x.double().cpu()
            sums[f"{name}_square"][layer] += x.mT @ x
            if name in dims:
                sums[f"{name}_sum"][layer] += x.sum(1)

    def step(number: int) -> dict[str, float]:
        ids = job.texts.ids(number)
        job.reader.read(ids, take)
        sums["n"] += ids.shape[1]
        return {"tokens": float(ids.shape[1])}

    job.run(job.texts.n).go(step, sums)
    return sums


def _moments(sums: Sums, name: str) -> tuple[Tensor, Tensor]:
    """Means [L, H, D] and covariances [L, H, D, D]."""
    mean = sums[f"{name}_sum"] / sums["n"]
    return mean, sums[f"{name}_square"] / sums["n"] - mean[..., :, None] * mean[..., None, :]


def _axes(job: Job, name: str) -> dict[str, list[str]]:
    mean = ["layer", "head", job.axis(name)]
    return {f"{name}_mean": mean, f"{name}_basis": [*mean, "rank"]}


def _errors(made: dict[str, Any], queries: Tensor, of_keys: Tensor) -> list[float]:
    """What half the rank leaves of the variance of logits, per layer."""
    a, b = made["of_queries"].double(), made["of_keys"].double()
    half = max(1, a.shape[-2] // 2)
    a, b = (x[..., :half] for x in (a, b))
    zero = torch.zeros_like(a)
    left, whole = (project.loss(x, y, queries, of_keys).sum(1) for x, y in ((a, b), (zero, zero)))
    return [round(float(x), 6) for x in left / whole]
