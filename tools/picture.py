"""Draw docs/images/river.svg: what a recipe does to the keys and values of one layer."""

from __future__ import annotations

from pathlib import Path

TARGET = Path(__file__).parents[1] / "docs" / "images" / "river.svg"
N_TOKENS, N_HEADS, CELL, GAP = 40, 4, 12, 2
LEFT, TOP = 24, 64
RAW, CODED, DROPPED, INK, FAINT = "#2f6f8f", "#e0a33e", "#e9edf0", "#24323b", "#71808b"

KEPT = (
    (0, 1, 7, 8, 9, 15, 16, 22, 23, 24, 30, 33, 36, 37, 38, 39),
    (0, 3, 4, 12, 19, 20, 28, 36, 37, 38, 39),
    (0, 1, 2, 8, 9, 10, 11, 17, 22, 23, 26, 27, 28, 33, 34, 35, 36, 37, 38, 39),
    (0, 14, 15, 31, 36, 37, 38, 39),
)
N_RAW = 4
CODED_COST = 4.5 / 16
"""What a coded entry of 64 channels takes of a raw one: 4 bits, and 4 bytes of step and offset per 64
channels.
"""


def cell(x: float, y: float, colour: str) -> str:
    """One key and value."""
    return f'<rect x="{x:g}" y="{y:g}" width="{CELL}" height="{CELL}" rx="2" fill="{colour}"/>'


def text(x: float, y: float, words: str, colour: str = INK, size: int = 13, anchor: str = "start") -> str:
    """A line of text."""
    style = f'fill="{colour}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{words}</text>'


def shape(index: int, head: int) -> str:
    """The colour of a token in one head before and after."""
    if index not in KEPT[head]:
        return DROPPED
    return RAW if index >= N_TOKENS - N_RAW else CODED


def share() -> int:
    """The bytes of the lower drawing in percent of the upper one's, rounded up."""
    colours = [shape(i, h) for h in range(N_HEADS) for i in range(N_TOKENS)]
    spent = colours.count(RAW) + CODED_COST * colours.count(CODED)
    return -int(-100 * spent // (N_HEADS * N_TOKENS))


def picture() -> str:
    """The whole drawing."""
    step = CELL + GAP
    width, right = 900, LEFT + N_TOKENS * step
    marks = [text(LEFT, 28, "one layer, four heads, a context of forty tokens", size=15)]
    marks.append(text(LEFT, 48, "full cache: every head keeps every token in 16 bits", FAINT))
    marks += [cell(LEFT + i * step, TOP + h * step, RAW) for h in range(N_HEADS) for i in range(N_TOKENS)]
    marks.append(text(right + 20, TOP + 2 * step + 2, "100 % of the bytes"))
    middle = TOP + N_HEADS * step + 34
    marks.append(text(LEFT, middle, f"keydiff &gt; adaptive &gt; int4 @ {share()}%", size=15))
    caption = "heads keep what they need; keepers are coded, the newest stay raw"
    marks.append(text(LEFT, middle + 20, caption, FAINT))
    below = middle + 36
    marks += [
        cell(LEFT + i * step, below + h * step, shape(i, h)) for h in range(N_HEADS) for i in range(N_TOKENS)
    ]
    marks.append(text(right + 20, below + 2 * step + 2, f"{share()} % of the bytes, truly freed"))
    legend = below + N_HEADS * step + 26
    names = ((RAW, "raw, 16 bits"), (CODED, "coded, 4 bits"), (DROPPED, "dropped"))
    for i, (colour, words) in enumerate(names):
        marks += [cell(LEFT + i * 150, legend - 11, colour), text(LEFT + i * 150 + 18, legend, words, FAINT)]
    last = legend + 36
    caption = "attention over each part, merged exactly by log-sum-exp: no padding, no masks over fakes"
    marks.append(text(LEFT, last, caption))
    body = "\n".join(marks)
    style = 'font-family="ui-sans-serif, system-ui, sans-serif"'
    size = f'width="{width}" height="{last + 24}" viewBox="0 0 {width} {last + 24}"'
    ground = f'<rect width="{width}" height="{last + 24}" rx="8" fill="#ffffff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{ground}\n{body}\n</svg>\n'


if __name__ == "__main__":
    TARGET.write_text(picture(), "utf-8")
