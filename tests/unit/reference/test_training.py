"""The parts of the training loop: course, rate, loss, saving."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from keyvalise.reference import shape, tasks
from keyvalise.reference.tasks.words import vocabulary
from keyvalise.train import reference as training


@pytest.fixture(scope="module")
def model():
    return shape.fresh_model(shape.config(len(vocabulary()), bos=1, eos=2, pad=3), seed=3)


def course(**settings):
    return training.Course(random.Random(0), **settings)


def answered(share, n_all=1000):
    return torch.tensor([[share * n_all, n_all]] * len(tasks.RECIPES))


def at_length(length):
    return torch.zeros(2, length, dtype=torch.long)


def test_the_rate_warms_up_stays_and_falls():
    assert training.learning_rate(1.0, 0, 0.0) == pytest.approx(1 / training.WARM_UP)
    assert training.learning_rate(1.0, 500, 0.5) == 1.0
    assert training.learning_rate(1.0, 500, 0.9) == pytest.approx(0.3)
    assert training.learning_rate(1.0, 500, 1.0) == pytest.approx(0.03)


def test_lengths_are_those_reached_and_mostly_the_newest():
    drawn = [course_draw[0] for course_draw in _draws(course(stage=2))]
    assert set(drawn) == {128, 256, 512}
    assert drawn.count(512) > len(drawn) / 2


def _draws(one, count=300):
    return [one.draw() for _ in range(count)]


def test_failing_tasks_are_drawn_more_often():
    one = course()
    counts = answered(1.0)
    counts[0, 0] = 0
    one.record(at_length(128), counts)
    names = [name for _, drawn in _draws(one, 30) for name in drawn]
    assert names.count("needle") > 3 * names.count("copy")


def test_every_worker_gets_a_sequence():
    assert len(course(stage=5, n_workers=2).draw()[1]) >= 2


def test_the_length_doubles_when_the_core_is_learned():
    one = course()
    one.record(at_length(128), answered(0.8))
    assert not one.promote(last=3)
    for _ in range(100):
        one.record(at_length(128), answered(0.95))
    assert one.promote(last=3)
    assert (one.stage, one.right["needle"]) == (1, 0.0)
    one.record(at_length(128), answered(0.95))
    assert one.right["needle"] == 0.0
    assert not one.promote(last=3)


def test_the_last_length_is_kept():
    one = course(stage=3)
    one.record(at_length(1024), answered(1.0))
    assert not one.promote(last=3)


def test_workers_share_a_batch_without_overlap():
    whole, _ = training.make_batch(course(), 1, 0)
    halves = [training.make_batch(course(n_workers=2), 1, worker)[0] for worker in (0, 1)]
    assert torch.equal(whole[0::2], halves[0])
    assert torch.equal(whole[1::2], halves[1])


def test_the_loss_counts_answer_tokens_by_task(model):
    ids, marks = training.make_batch(course(), 1, 0)
    loss, counts = training.answer_loss(model, ids[:8], marks[:8])
    content = (marks[:8] >= 0) & (ids[:8] != vocabulary()["</s>"])
    content[:, 0] = False
    assert loss.requires_grad
    assert counts[:, 1].sum() == content.sum()
    assert (counts[:, 0] <= counts[:, 1]).all()


def test_what_is_saved_loads_by_the_standard_classes(model, tmp_path):
    training.save(model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert loaded.generation_config.eos_token_id == AutoTokenizer.from_pretrained(tmp_path).eos_token_id == 2
    assert not (tmp_path / "new").exists()


def test_nothing_to_do_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["reference"])
    with pytest.raises(SystemExit):
        training.main()
    assert "give --out DIR to train or --evaluate DIR to measure" in capsys.readouterr().err
