"""Comparisons over seeds, and scores of classes."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from course_lib.data import few_per_class, kind_classes
from course_lib.evaluation import Judge
from course_lib.evaluation.scores import ACCURACY, KERNEL, ClassScores
from course_lib.profiles import current
from course_lib.recipes.recipe import Contender, Job, compare, publish_comparison
from course_lib.training import Card, Method
from course_lib.training.runs import Loss


class Line(Method):
    """One number that moves towards 1."""

    def __init__(self, seed, rate):
        super().__init__()
        network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(network.weight, 0.1 * seed)
        self.modules, self.length = {"generator": network}, 4
        self.optimizers = {"generator": torch.optim.SGD(network.parameters(), rate)}

    def batch(self, index, generator):
        return torch.ones(len(index), 1)

    def losses(self, batch, generator, step):
        yield Loss("generator", (self.modules["generator"](batch) - 1).square().mean())


def contender(name, rate, seeds=2, built=None):
    def build(seed):
        if built is not None:
            built.append((name, seed))
        return Line(seed, rate), look

    return Contender(name, build, 2, seeds)


def look(network, stop):
    pictures = network.weight.view(1, 1, 1, 1).expand(4, 3, 2, 2)
    return pictures, {"distance": (pictures.mean() - 1).abs().item(), "class accuracy": pictures.mean().item()}


def test_a_comparison_scores_at_stops_is_kept_and_names_who_wins(tmp_path):
    built = []
    job = Job(current("quick"), out=tmp_path, work=tmp_path / "work")
    lines = [contender("fast", 0.2, 2, built), contender("slow one", 0.05, 1, built)]
    found = compare(job, "race", lines, (0, 2, 4), shown=2)
    assert built == [("fast", 0), ("slow one", 0), ("fast", 1)]
    assert found == json.loads(json.dumps(found)) == compare(job, "race", lines, (0, 2, 4)) and len(built) == 3
    first, second = found["fast"]
    assert first["steps"] == [0, 2, 4] and first["scores"]["distance"][0] == pytest.approx(1)
    assert second["scores"]["distance"][0] == pytest.approx(0.9)
    # Gradient descent on (w − 1)²: the distance shrinks by 1 − 2 · rate a step, with or without a stop on the way.
    assert first["scores"]["distance"][2] == pytest.approx(0.6**4, abs=1e-6)
    assert not list((tmp_path / "work").rglob("state.safetensors"))
    card = Card("race", "comparison", {})
    publish_comparison(job, card, found, "fast: distance", [("fast", "slow one")])
    assert card.metrics["fast beats slow one: distance"] == card.metrics["fast beats slow one: class accuracy"] == 1
    assert card.curve["fast: distance, std"][0] == pytest.approx(0.1 / 2**0.5) and card.metrics["fast: distance"] < 0.13
    assert "slow one: distance, std" not in card.curve and (tmp_path / "race.safetensors").is_file()


def test_no_repetition_begins_after_the_time_is_up(tmp_path):
    job = Job(current("quick"), out=tmp_path, work=tmp_path, seconds=0.0)
    assert compare(job, "race", [contender("fast", 0.2)], (2,)) == {}


def test_real_pictures_score_best_and_swapped_classes_worst():
    data = few_per_class(kind_classes(["planets", "moods", "icons"]), 60)
    judge, halves = Judge.load(), (torch.arange(len(data)) % 2).bool()
    scores = ClassScores(data.subset(halves), judge)
    assert scores.real_accuracy > 0.9 and scores.chance == pytest.approx(1 / 36)
    other = data.subset(~halves)
    pictures, labels = torch.cat(list(other.batches(100))), other.labels["class"]
    own, swapped = scores.mean(pictures, labels), scores.mean(pictures, (labels + 1) % 3)
    assert own[ACCURACY] > 0.9 and swapped[ACCURACY] == 0 and own[KERNEL] < 0.1 * swapped[KERNEL]
    assert own["Fréchet distance, all classes"] == pytest.approx(swapped["Fréchet distance, all classes"])
    assert 2 < own["inception score"] <= 3.3
    assert set(scores.by_class(pictures, labels)) == {*scores.classes, "intra-class mean"}


def test_classes_that_the_judge_does_not_know_are_told_by_their_nearest_mean():
    data = kind_classes(["planets", "moods"])
    data = few_per_class(replace(data, classes=data.classes | {"class": ["mine", "yours"]}), 40)
    scores = ClassScores(data, Judge.load())
    assert scores.kinds is None and scores.chance == 0.5 and scores.real_accuracy > 0.9
