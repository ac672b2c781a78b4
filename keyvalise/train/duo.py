"""Learn one gate per kv head by distillation: which heads must look back, and which may stream.

    python -m keyvalise.train.duo --model reference --steps 600 --sinks 8 --recent 32 --save

Formula    student row: out = (1 − a)·Stream(q_s, k_s, v_s) + a·Full(q_t, k_t, v_t), the full branch being the
           teacher row's own output, without gradient;  loss = mean over label tokens of mean over features of
           (h_s − h_t)² + λ·mean|a|, h the final hidden states;  a in [0, 1] before every step, 1 at first
Units      lengths, sinks, recent: tokens;  the rate falls and rises as the paper's, scaled to the steps
Reduces to a loss of exactly 0 where all gates are 1, and for lessons within sinks + recent
Differs    streams are exact to the token, where the official ones are in blocks of 128; the reference model
           is taught with generated documents in its own words, other models with passkeys in generated text
           (or --text); no chat template
Paper      Xiao et al. 2024, arXiv 2410.10819           Confidence  official code
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from keyvalise.reference import loading
from keyvalise.train import lessons as teaching
from keyvalise.train import options, run
from keyvalise.train.attention import served
from keyvalise.train.gates import Gates
from keyvalise.train.lessons import Lesson, Lessons
from keyvalise.train.run import Run

NAME = "duo"
TASKS = ("needle", "multikey", "multiquery", "records", "copy")


@dataclass(frozen=True)
class Course:
    """penalty  λ;  sinks, recent: what a stream sees;  rate: the optimiser's at its height"""

    penalty: float = 0.05
    rate: float = 0.02
    sinks: int = 128
    recent: int = 256


def distil(model: Any, gates: Gates, lesson: Lesson) -> tuple[Tensor, Tensor]:
    """(distance of the student's final states from the teacher's on the labels, these states [2, S, E])."""
    with served(model, gates.taught):
        ids = lesson.ids.repeat(2, 1)
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    teacher, student = hidden.float().chunk(2)
    apart = (student - teacher.detach()).square().mean(-1)
    return apart[lesson.labels].mean(), hidden


def learn(model: Any, lessons: Lessons, course: Course, steps: Run) -> Gates:
    """The gates after all steps; `steps.trail` tells loss and mean gate of each.

    Raises   UnsupportedModel, InputError; AssetError for a damaged state of an interrupted run
    """
    gates = Gates.open(model, course.sinks, course.recent)
    optimiser, moments = run.adam(gates.values, lr=course.rate, weight_decay=0.0)

    def step(number: int) -> dict[str, float]:
        gates.clamp_()
        optimiser.param_groups[0]["lr"] = course.rate * run.slope(number, steps.n_steps)
        loss, _ = distil(model, gates, lessons(number))
        size = gates.size
        optimiser.zero_grad()
        (loss + course.penalty * size).backward()
        optimiser.step()
        return {"loss": loss.item(), "gate": size.item()}

    steps.go(step, {"gates": gates.values, **moments})
    gates.clamp_()
    return gates


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = options.parser(NAME, __doc__, steps=2000, lengths=(1000, 32000))
    options.add_gates(parse, Course())
    parse.add_argument("--needles", type=int, default=10, help="questions of one lesson")
    parse.add_argument("--text", help="a long text to hide passkeys in (default: generated)")
    parse.add_argument("--data", choices=("pages", "passkeys"), help="default: pages for reference")
    return parse


def main() -> None:
    """Learn and keep."""
    with options.said():
        given = parser().parse_args()
        model, tokenizer = options.load(given)
        course = Course(given.penalty, given.rate, given.sinks, given.recent)
        given.data = given.data or ("pages" if given.model == loading.REFERENCE else "passkeys")
        lessons = _lessons(model, tokenizer, given)
        share = teaching.must_retrieve(model, lessons)
        steps = options.steps(given, NAME, model, tasks=TASKS)
        gates = learn(model, lessons, course, steps)
        options.keep_gates(given, model, gates.table(), steps, {"right_before": round(share, 4)})


def _lessons(model: Any, tokenizer: Any, given: argparse.Namespace) -> Lessons:
    lengths, n = tuple(given.lengths), given.needles
    if given.data == "pages":
        return teaching.pages(model, tokenizer, TASKS, lengths, n=n, seed=given.seed)
    text = options.text(given.text) if given.text else teaching.haystack(4 * lengths[1], given.seed)
    return teaching.passkeys(model, tokenizer, text, lengths, n=n, seed=given.seed)


if __name__ == "__main__":
    main()
