"""The comparison of methods: every line is a possible run, and the card holds means, deviations and wins."""

import pytest

from course_lib.bn_transfer import METHODS, TUNED
from course_lib.profiles import Profile
from course_lib.recipes import RECIPES
from course_lib.recipes.bn_transfer import COMPARISON, SCORES, TRANSFER_RUNS, _publish_comparison
from course_lib.recipes.recipe import Job
from course_lib.training import load_card


def test_every_line_is_a_run_of_its_own():
    assert len({run.name for run in TRANSFER_RUNS}) == len(TRANSFER_RUNS)
    assert {run.settings.method for run in TRANSFER_RUNS} == set(METHODS) == set(TUNED)
    assert {run.per_class for run in TRANSFER_RUNS} == {5, 20, None} and {run.old for run in TRANSFER_RUNS} == {
        5,
        20,
        None,
    }
    shared = ("critic_rate", "augmented", "decay", "reconstruction")
    assert len({tuple(run.settings.options[key] for key in shared) for run in TRANSFER_RUNS}) == 1
    assert {settings.batch_size for settings in TUNED.values()} == {40}
    assert all(run.seeds >= 3 for run in TRANSFER_RUNS if run.name in METHODS)
    assert {"biggan32-codes", "bn-transfer32", COMPARISON} <= set(RECIPES)


def test_the_card_of_the_comparison(tmp_path):
    def row(*values):
        return {"steps": [0, 50], "seconds": 2.0} | {key: list(values) for key in SCORES}

    rows = {
        "propagation": [row(5.0, 1.0), row(5.0, 3.0)],
        "free": [row(5.0, 2.0), row(5.0, 2.0)],
        "scratch": [row(9.0, 9.0), row(9.0, 8.0)],
    }
    _publish_comparison(Job(Profile("quick"), out=tmp_path), rows, 50)
    card = load_card(COMPARISON, tmp_path)
    kernel = SCORES["kernel"]
    assert card.curve["step"] == [0, 50] and card.curve[f"propagation: {kernel}"] == [5.0, 2.0]
    assert card.curve[f"propagation: {kernel}, deviation"] == pytest.approx([0.0, 2**0.5])
    assert card.metrics[f"free: {kernel}"] == 2.0 and card.seconds == 12.0
    assert card.metrics[f"share of seeds in which propagation beats free: {kernel}"] == 0.5
    assert card.metrics[f"share of seeds in which propagation beats scratch: {kernel}"] == 1.0
    # More accuracy is better.
    assert card.metrics[f"share of seeds in which propagation beats scratch: {SCORES['accuracy']}"] == 0.0
    assert not any("fine-tuning" in name for name in card.metrics) and card.recipe["repetitions"]["free"] == 2
