"""The options that several commands share, with their words for --help."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(
        "--model", help="'reference' (embedded), a local folder, or a name on the hub.", metavar="MODEL"
    ),
]
RecipeText = Annotated[
    str,
    typer.Option(
        "--recipe", help="A recipe, as in 'snapkv @ 25%' or 'adakv > int4 @ 10%'.", metavar="RECIPE"
    ),
]
Documents = Annotated[
    list[str] | None,
    typer.Option("--document", help="A text file, or - for standard input; repeatable.", metavar="FILE"),
]
MaxNewTokens = Annotated[
    int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.", metavar="N")
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="In which raw keys and values are held, and what shares refer to: "
        "auto (the model's if it has 16 bits, else float16), float16, bfloat16, float32.",
        metavar="DTYPE",
    ),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.", metavar="DEVICE")]
PrefillChunk = Annotated[
    int | None,
    typer.Option("--prefill-chunk", help="Read the document this many tokens at a time.", metavar="N"),
]
HostMemory = Annotated[
    str | None,
    typer.Option(
        "--host-memory",
        help="Most that a recipe may put into host memory, such as 8GiB; by default 80 % of what is free.",
        metavar="BYTES",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of the draws that random recipes make.", metavar="N")]
Salt = Annotated[
    str,
    typer.Option(
        "--salt",
        envvar="KEYVALISE_SALT",
        help="Whose the cache is; it is found under its own salt alone.",
        metavar="TEXT",
    ),
]
Level = Annotated[
    str | None,
    typer.Option(
        "--level",
        help="Write it as a bitstream: lossless, large, medium, small or smallest. Below lossless, raw keys "
        "and values come back near what they were.",
        metavar="LEVEL",
    ),
]
FitWindows = Annotated[
    bool, typer.Option("--fit-windows", help="Let windows take at most a quarter of the budget.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Right or wrong only, in one call: no texts, errors or speeds.")
]
QueryAware = Annotated[
    bool,
    typer.Option("--query-aware", help="Compress every question with the document; the report says so."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the result: no progress, no explanations.")
]
