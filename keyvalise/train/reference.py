"""Train, resume or measure the reference model.

    python -m keyvalise.train.reference --out DIR [--resume DIR] [--minutes N] [--device cpu] [--seed N]
    python -m keyvalise.train.reference --evaluate DIR [--documents 200] [--json]

One step: a batch of generated sequences of one length, cross entropy on the answers (and faintly on some
other tokens), AdamW. The length doubles whenever the core tasks are answered well enough; shorter lengths
stay in the mix, and tasks that still fail are drawn more often. A run can start from the shipped weights
alone: the optimiser then starts afresh with a warm-up.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.nn import functional

from keyvalise.reference import card, shape, tasks
from keyvalise.reference.evaluate import table
from keyvalise.reference.tasks import stream
from keyvalise.reference.tasks.words import vocabulary
from keyvalise.reference.tokenizer import build_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CORE = ("needle", "records", "copy", "override")
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
BATCH_TOKENS = 4096
OTHER_TOKENS = 0.1
PROMOTE_AT = 0.9
WARM_UP = 60
MEMORY = 0.97
LEAST_SEEN = 300


@dataclass
class Course:
    """Where a run stands: which length it is at and how well each task goes there."""

    rng: random.Random
    n_workers: int = 1
    stage: int = 0
    step: int = 0
    seen: int = 0
    tally: torch.Tensor = field(default_factory=lambda: torch.zeros(len(tasks.RECIPES), 2))

    @property
    def right(self) -> dict[str, float]:
        """Running share of right answer tokens at the newest length, by task."""
        shares = self.tally[:, 0] / self.tally[:, 1].clamp(min=1)
        return dict(zip(tasks.RECIPES, shares.tolist(), strict=True))

    def draw(self) -> tuple[int, list[str]]:
        """A length (mostly the newest) and a task (mostly one that fails) for each sequence."""
        stage = self.stage if self.rng.random() < 0.6 else self.rng.randint(0, self.stage)
        length = LENGTHS[stage]
        weights = [0.15 + (1 - right) for right in self.right.values()]
        n_rows = max(self.n_workers, BATCH_TOKENS // length)
        return length, self.rng.choices(list(self.right), weights, k=n_rows)

    def record(self, ids: torch.Tensor, counts: torch.Tensor) -> None:
        """One more step; fold its answers, if at the newest length, into the running shares."""
        self.step += 1
        self.seen += ids.numel() * self.n_workers
        if ids.shape[1] == LENGTHS[self.stage]:
            kept = torch.where(counts[:, 1:] > 0, MEMORY, 1.0)
            self.tally = kept * self.tally + counts.cpu()

    def promote(self, last: int) -> bool:
        """Move to the next length when the core tasks are answered well."""
        known = [index for index, name in enumerate(tasks.RECIPES) if name in CORE]
        right, seen = self.tally[known].unbind(1)
        if self.stage == last or bool((seen < LEAST_SEEN).any()) or (right / seen).mean() < PROMOTE_AT:
            return False
        self.stage += 1
        self.tally.zero_()
        return True


def make_batch(course: Course, seed: int, worker: int) -> tuple[torch.Tensor, torch.Tensor]:
    """This worker's ids and answer marks, (B, L) each; a sequence asks one task, sometimes two."""
    length, drawn = course.draw()
    chosen = {name: (index, recipe) for index, (name, recipe) in enumerate(tasks.RECIPES.items())}
    second = [course.rng.choice(drawn) if course.rng.random() < 0.3 else name for name in drawn]
    samples = [
        stream.sample([chosen[name] for name in dict.fromkeys(pair)], length, f"{seed} {course.step} {row}")
        for row, pair in enumerate(zip(drawn, second, strict=True))
        if row % course.n_workers == worker
    ]
    return torch.tensor([one.ids for one in samples]), torch.tensor([one.answers for one in samples])


def answer_loss(
    model: LlamaForCausalLM, ids: torch.Tensor, marks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss on the answers (and a few other tokens); per task, right and all answer tokens, (tasks, 2)."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets, marks = ids[:, 1:], marks[:, 1:]
    answer = marks >= 0
    picked = answer | (torch.rand(marks.shape, device=ids.device) < OTHER_TOKENS)
    logits = functional.linear(hidden[picked], model.get_input_embeddings().weight)
    losses = functional.cross_entropy(logits, targets[picked], reduction="none")
    weights = torch.where(answer[picked], 1.0, OTHER_TOKENS)
    content = answer[picked] & (targets[picked] != vocabulary()["</s>"])
    correct = (logits.argmax(-1) == targets[picked])[content].float()
    rows = torch.stack([correct, torch.ones_like(correct)], 1)
    counts = torch.zeros(len(tasks.RECIPES), 2, dtype=rows.dtype, device=ids.device)
    counts.index_add_(0, marks[picked][content], rows)
    return (losses * weights).sum() / weights.sum(), counts


def share(model: LlamaForCausalLM, counts: torch.Tensor, spent: float) -> tuple[torch.Tensor, float]:
    """Average the gradients over the workers, add up their counts, agree on the time spent."""
    if not distributed.is_initialized():
        return counts, spent
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    clock = counts.new_tensor([spent])
    flat = torch.cat([gradient.flatten() for gradient in gradients] + [counts.flatten(), clock])
    distributed.all_reduce(flat)
    n_workers = distributed.get_world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient) / n_workers)
        start += gradient.numel()
    return flat[start:-1].view_as(counts), float(flat[-1]) / n_workers


def learning_rate(peak: float, step: int, progress: float) -> float:
    """Warm-up over steps, flat, then a linear fall over the last third of the time to 3 %."""
    return peak * min(1.0, (step + 1) / WARM_UP) * min(1.0, max(0.03, (1 - progress) * 3))


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Model and tokenizer; the weights appear in one move."""
    from transformers import GenerationConfig

    fresh = folder / "new"
    known = vocabulary()
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=16,
        bos_token_id=known["<s>"],
        eos_token_id=known["</s>"],
        pad_token_id=known["<pad>"],
    )
    model.save_pretrained(fresh)
    build_tokenizer().save_pretrained(fresh)
    for file in sorted(fresh.iterdir()):
        file.replace(folder / file.name)
    fresh.rmdir()
    (folder / "model.safetensors").chmod(0o644)


def start(resume: str | None, seed: int) -> LlamaForCausalLM:
    """The model to train: from a folder, or fresh."""
    from transformers import AutoModelForCausalLM

    if resume:
        return AutoModelForCausalLM.from_pretrained(resume, dtype="float32")
    known = vocabulary()
    settings = shape.config(len(known), bos=known["<s>"], eos=known["</s>"], pad=known["<pad>"])
    return shape.fresh_model(settings, seed)


def train(options: argparse.Namespace) -> None:
    """Run for the given minutes, on one process or several that share every step."""
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workers").unlink(missing_ok=True)
    command = [sys.executable, "-m", "keyvalise.train.reference", *sys.argv[1:], "--worker"]
    others = [subprocess.Popen([*command, str(worker)]) for worker in range(1, options.workers)]
    work(0, options)
    for other in others:
        other.wait()
    (folder / "workers").unlink(missing_ok=True)


def work(worker: int, options: argparse.Namespace) -> None:
    """One worker's loop; the first one writes weights and log."""
    folder = Path(options.out)
    torch.set_num_threads(options.threads)
    if options.workers > 1:
        place = f"file://{(folder / 'workers').resolve()}"
        distributed.init_process_group("gloo", place, rank=worker, world_size=options.workers)
    torch.manual_seed(options.seed)
    model = start(options.resume, options.seed).to(options.device).train()
    course = Course(random.Random(options.seed), options.workers, LENGTHS.index(options.length))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    begun = saved = time.monotonic()
    spent, whole = 0.0, options.minutes * 60
    while spent < whole:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(options.rate, course.step, spent / whole)
        ids, marks = make_batch(course, options.seed, worker)
        loss, counts = answer_loss(model, ids.to(options.device), marks.to(options.device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        counts, spent = share(model, counts, time.monotonic() - begun)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        course.record(ids, counts)
        grown = course.promote(LENGTHS.index(options.longest))
        if worker == 0 and course.step % 25 == 0:
            _log(folder, course, loss.item(), spent)
        if worker == 0 and (grown or time.monotonic() - saved > 120):
            save(model, folder)
            saved = time.monotonic()
    if worker == 0:
        save(model, folder)


def _log(folder: Path, course: Course, loss: float, spent: float) -> None:
    row = {
        "step": course.step,
        "seconds": round(spent),
        "tokens": course.seen,
        "length": LENGTHS[course.stage],
        "loss": round(loss, 3) if math.isfinite(loss) else None,
        **{name: round(right, 3) for name, right in course.right.items()},
    }
    with (folder / "train.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")


def measure(options: argparse.Namespace) -> None:
    """Print the held-out table; --save keeps it beside the weights and in the card, --page in a page too."""
    rows = table(options.evaluate, options.tasks, options.lengths, options.documents, options.workers)
    if options.save or options.page:
        kept = card.save_rows(Path(options.evaluate), rows)
        if options.page:
            card.write_table(Path(options.page), kept)
    print(json.dumps(rows, indent=1) if options.json else card.markdown(rows))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="python -m keyvalise.train.reference", description=__doc__)
    parse.add_argument("--out", help="folder for weights, tokenizer and log")
    parse.add_argument("--resume", help="folder whose weights to start from")
    parse.add_argument("--minutes", type=float, default=90.0)
    parse.add_argument("--device", default="cpu")
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--threads", type=int, default=1, help="threads of each worker")
    parse.add_argument("--workers", type=int, default=2, help="processes that share every step")
    parse.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
    parse.add_argument("--rate", type=float, default=2e-3)
    parse.add_argument("--length", type=int, default=LENGTHS[0], choices=LENGTHS, help="first length")
    parse.add_argument("--longest", type=int, default=4096, choices=LENGTHS, help="last length")
    parse.add_argument("--evaluate", help="folder to measure instead of training")
    parse.add_argument("--documents", type=int, default=200, help="documents a row of the table")
    parse.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096])
    parse.add_argument("--tasks", nargs="+", default=list(tasks.names()), choices=tasks.names())
    parse.add_argument("--save", action="store_true", help="merge the rows into heldout.json and the card")
    parse.add_argument("--page", help="Markdown page whose marked table is written anew")
    parse.add_argument("--json", action="store_true")
    return parse


def main() -> None:
    """Train, or measure."""
    options = parser().parse_args()
    if options.evaluate:
        measure(options)
    elif options.out and options.worker:
        work(options.worker, options)
    elif options.out:
        train(options)
    else:
        parser().error("give --out DIR to train or --evaluate DIR to measure")


if __name__ == "__main__":
    main()
