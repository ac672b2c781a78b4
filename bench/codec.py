"""The bitstream against bf16, 8 bits, byte planes and zstd: bytes, speed, and what a level loses.

    python bench/codec.py                 the reference model on held-out documents, then random weights
    python bench/codec.py --keep          the same, kept for docs/codec.md
    python bench/codec.py --json          every table as a line of JSON
    python bench/codec.py --documents 1 --questions 0      bytes and speed alone, in a minute

Caches are bf16, one row. Bytes are those of whole streams: header, ids, positions and bases included. 8 bits
are one byte per number and nothing beside it. `zstd same codes`: zstd-19 over the very codes that a stream
holds, in the better of both orders, and what the stream holds beside its codes. `zstd channels`: zstd-19 over
codes of the same bins without turning to principal components, in the better order. Speeds are of one thread,
in bytes of a 16-bit cache, best of several. Accuracy is exact match of greedy answers, paired with the bf16
cache; the attention error is ‖Δ‖ / ‖·‖ of the attention's outputs at the tokens of questions and answers.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cases
import codec_caches
import numpy as np
import torch
import zstandard
from codec_caches import Document

from keyvalise.bench.results import write_whole
from keyvalise.bench.statistics import paired_loss
from keyvalise.ops import anchors, fitted, ladder
from keyvalise.store import stream
from keyvalise.store.stream import coded, frame, levels, part
from keyvalise.store.stream.frame import Tag

LINES = Path(__file__).parents[1] / "docs" / "results" / "codec.jsonl"
CHUNKS = (256, 512, 1024, 1536, 2048)
REPEATS = 15
Row = dict[str, Any]


def zstd(data: bytes) -> int:
    """Bytes of zstd-19."""
    return len(zstandard.ZstdCompressor(level=19).compress(data))


def better(codes: np.ndarray) -> int:
    """zstd-19 over codes [R, N] in the better of both orders, in the narrowest type that holds them."""
    most = int(np.abs(codes).max(initial=0))
    kind = np.int8 if most < 128 else np.int16 if most < 2**15 else np.int32
    return min(zstd(codes.astype(kind).tobytes()), zstd(np.ascontiguousarray(codes.T).astype(kind).tobytes()))


def planes(sheets: Sequence[stream.Sheet]) -> int:
    """zstd-19 over the two byte planes of keys and of values, each in the better order."""
    total = 0
    for sheet in sheets:
        for x in (sheet.keys, sheet.values):
            both = x.contiguous().view(torch.int16).numpy().view(np.uint8).reshape(len(x), sheet.n, -1, 2)
            total += sum(
                better(np.moveaxis(both[..., i], 1, 0).reshape(sheet.n, -1).view(np.int8)) for i in (0, 1)
            )
    return total


def sizes(document: Document, chunk: int = coded.CHUNK) -> list[Row]:
    """Bytes of every level beside those of its rivals."""
    encoded = coded.Encoded(document.sheets, chunk)
    bf16 = sum(sheet.nbytes for sheet in document.sheets)
    by_planes, rows = planes(document.sheets), []
    for name, level in stream.LEVELS.items():
        data = stream.write(document.sheets, name, chunk=chunk)
        spent = dict.fromkeys((tag.name.lower() for tag in Tag), 0)
        for one in frame.parse(data):
            spent[one.tag.name.lower()] += len(one.payload)
        row = {"level": name, "bf16": bf16, "bytes": len(data), "planes": by_planes} | spent
        if not level.is_exact:
            row["same_codes"] = len(data) - spent["codes"] + _rival(encoded, level)
            row["channels"] = _untransformed(encoded, level)
        rows.append(row)
    progressive = stream.write(document.sheets, "lossless", is_progressive=True, chunk=chunk)
    return [
        *rows,
        {"level": "all, progressive", "bf16": bf16, "bytes": len(progressive), "planes": by_planes},
    ]


def _rival(encoded: coded.Encoded, level: levels.Level) -> int:
    """zstd over the codes that the frames of a level hold."""
    total = 0
    for layer in range(len(encoded.sheets)):
        for chunk in range(encoded.header.n_chunks(layer)):
            for kind in part.KINDS:
                rung = level.rung(kind)
                total += better(encoded.codes(layer, chunk, kind, rung, rung).coded.codes)
    return total


def _untransformed(encoded: coded.Encoded, level: levels.Level) -> int:
    """zstd over codes of channels, bins as wide, of all tokens."""
    total = 0
    for layer, sheet in enumerate(encoded.sheets):
        for kind in part.KINDS:
            own = encoded.parts[layer][kind]
            x = (part.matrix(sheet, kind) - own.shared.mean) / own.shared.spread
            total += better(ladder.quantize(x.T, own.step(level.rung(kind))))
    return total


def least(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of processor time of the fastest call, after one that warms up."""
    spent = []
    for _ in range(repeats + 1):
        begin = time.process_time()
        call()
        spent.append(time.process_time() - begin)
    return min(spent[1:])


def speeds(document: Document) -> list[Row]:
    """Megabytes of a 16-bit cache per second."""
    millions, rows = sum(sheet.nbytes for sheet in document.sheets) / 1e6, []
    for name in stream.LEVELS:
        data = stream.write(document.sheets, name)
        writing = least(lambda name=name: stream.write(document.sheets, name), 1)
        reading = least(lambda data=data: stream.read(data), REPEATS)
        rows.append({"level": name, "decode_mb_s": millions / reading, "encode_mb_s": millions / writing})
    return rows


def layers(document: Document) -> list[Row]:
    """Deltas against direct codes, and principal components against channels, in bits per number."""
    encoded, rows = coded.Encoded(document.sheets), []
    for layer, sheet in enumerate(document.sheets):
        for kind in part.KINDS:
            own = encoded.parts[layer][kind]
            x = (part.matrix(sheet, kind) - own.shared.mean) / own.shared.spread
            codes = encoded.codes(layer, 0, kind, 1, 1).coded.codes
            channels = ladder.quantize(x.T[:, : codes.shape[1]], own.step(1))
            n = channels.size
            row = {"layer": layer, "kind": kind, "written": codes.shape[1] / min(sheet.n, coded.CHUNK)}
            row |= {"rank": len(codes), "of": len(channels), "block": own.shared.width}
            for name, chosen in (("components", codes), ("channels", channels)):
                row[f"{name}, direct"] = fitted.cost(chosen) / n
                row[f"{name}, delta"] = fitted.cost(anchors.subtract(chosen)) / n
            row["as written"] = 8 * len(encoded.codes(layer, 0, kind, 1, 1).frame.payload) / n
            row["own tables"] = _own_tables(codes) / n
            rows.append(row)
    return rows


def _own_tables(codes: np.ndarray) -> float:
    """Bits with one static table per component, six bits for every symbol that it lists."""
    bits = 0.0
    for row in codes:
        counts = np.unique(row, return_counts=True)[1]
        bits += 6 * len(counts) - float((counts * np.log2(counts / counts.sum())).sum())
    return bits


def losses(documents: Sequence[Document]) -> list[Row]:
    """Accuracy, likelihood and attention error of every lossy level, and the paired counts."""
    names = [name for name, level in stream.LEVELS.items() if not level.is_exact]
    rows = {name: {"level": name, "n": 0, "lost": 0, "won": 0} for name in names}
    right: dict[str, list[bool]] = {name: [] for name in ("base", *names)}
    nats, squares = {name: [0.0, 0.0] for name in names}, {name: [0.0, 0.0] for name in names}
    for document in documents:
        base, wanted = codec_caches.ask(document, document.sheets)
        right["base"] += base.right
        for name in names:
            held = stream.read(stream.write(document.sheets, name))
            given, found = codec_caches.ask(document, held)
            row, pairs = rows[name], list(zip(base.right, given.right, strict=True))
            row["n"] += len(pairs)
            right[name] += given.right
            row["lost"] += sum(was and not now for was, now in pairs)
            row["won"] += sum(now and not was for was, now in pairs)
            for i, answers in enumerate((base, given)):
                nats[name][i] += sum(min(cost, 20.0) for cost in answers.nats)
            for x, y in zip(found, wanted, strict=True):
                squares[name][0] += float((x - y).square().sum())
                squares[name][1] += float(y.square().sum())
    for name, row in rows.items():
        row["right"], row["of_base"] = (sum(right[which]) / max(row["n"], 1) for which in (name, "base"))
        if row["n"]:
            loss = paired_loss(right["base"], right[name])
            row |= {"loss": loss.value, "low": loss.low, "high": loss.high}
        row["nats_more"] = (nats[name][1] - nats[name][0]) / max(row["n"], 1)
        row["attention_error"] = (squares[name][0] / max(squares[name][1], 1e-30)) ** 0.5
    return list(rows.values())


def chunks(document: Document) -> list[Row]:
    """Bytes of `medium` and of `lossless` by the size of a chunk."""
    return [
        {"chunk": chunk}
        | {name: len(stream.write(document.sheets, name, chunk=chunk)) for name in ("medium", "lossless")}
        for chunk in CHUNKS
    ]


def total(tables: Sequence[list[Row]]) -> list[Row]:
    """The rows of several documents added up."""
    return [
        {
            key: value if key == "level" else sum(row.get(key, 0) for row in rows)
            for key, value in rows[0].items()
        }
        for rows in zip(*tables, strict=True)
    ]


def shown(rows: Sequence[Row]) -> list[Row]:
    """Bytes as what people ask for."""
    out = []
    for row in rows:
        new = {
            "level": row["level"],
            "bits": 16 * row["bytes"] / row["bf16"],
            "of bf16": row["bytes"] / row["bf16"],
        }
        new |= {
            "below 8 bits": row["bf16"] / 2 / row["bytes"],
            "of planes + zstd": row["bytes"] / row["planes"],
        }
        for name in ("same_codes", "channels"):
            if name in row:
                new[f"of zstd {name.replace('_', ' ')}"] = row["bytes"] / row[name]
        beside = sum(row.get(name, 0) for name in ("header", "plain", "side", "rows"))
        out.append(new | ({"beside codes": beside / row["bytes"]} if beside else {}))
    return out


def show(title: str, rows: Sequence[Row], is_json: bool) -> Row:
    """One table, printed, and as what stands in a line of JSON."""
    line = {"table": title, "rows": rows, "machine": cases.machine()}
    if is_json:
        print(json.dumps(line), flush=True)
        return line
    print(f"\n{title}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names] + [[_cell(row.get(name, "")) for name in names] for row in rows]
    sizes = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for words in cells:
        print("  ".join(cell.rjust(size) for cell, size in zip(words, sizes, strict=True)), flush=True)
    return line


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=56, help="held-out documents of each kind")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--tokens", type=int, default=2048, help="of every document")
    parser.add_argument("--questions", type=int, default=16, help="at most, per document; 0: none")
    parser.add_argument("--json", action="store_true", help="a line of JSON per table")
    parser.add_argument("--keep", action="store_true", help=f"write them into {LINES.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    documents = list(
        codec_caches.reference(options.tokens, options.documents, options.questions, options.first)
    )
    random = codec_caches.random(options.tokens)
    few = documents[:: max(1, len(documents) // 2)][:2]
    tables: list[tuple[str, Callable[[], list[Row]]]] = [
        ("bytes, reference model", lambda: shown(total([sizes(document) for document in few]))),
        ("speed, reference model", lambda: speeds(few[0])),
        ("layers, reference model, rung 1", lambda: layers(few[0])),
        ("bytes by chunk, reference model", lambda: chunks(few[0])),
        ("losses, reference model", lambda: losses(documents) if options.questions else []),
        ("bytes, random model of 8 layers", lambda: shown(sizes(random))),
        ("speed, random model of 8 layers", lambda: speeds(random)),
    ]
    lines = [show(title, rows, options.json) for title, make in tables if (rows := make())]
    if options.keep:
        write_whole(LINES, "".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
