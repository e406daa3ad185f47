"""The recipe of notebook 08's comparison: what its card holds, and that finished runs are not trained again."""

import pytest

from course_lib.data import TRANSFER_CLASSES
from course_lib.hypermod.variants import VARIANTS
from course_lib.profiles import current
from course_lib.recipes import hypermod_comparison as recipe
from course_lib.recipes.recipe import Job
from course_lib.training import load_weights


def test_the_plan_has_three_seeds_for_each_rival_and_known_variants():
    seeds = {}
    for run in recipe.PLAN:
        assert run.variant in VARIANTS
        seeds.setdefault((run.variant, run.pictures), []).append(run.seed)
    assert len(set(recipe.PLAN)) == len(recipe.PLAN)
    for variant in ("hyper-modulation", "class styles", "random start", "from scratch", "contrastive"):
        assert seeds[variant, 50] == [0, 1, 2]


def test_a_comparison_goes_on_where_it_stopped_and_its_card_has_every_run(monkeypatch, tmp_path):
    monkeypatch.setattr(recipe, "PLAN", (recipe.Run("hyper-modulation", 50, 0),))
    job = Job(current("quick"), out=tmp_path / "out", work=tmp_path / "work")
    first = recipe.train_comparison(job)
    key = "hyper-modulation | 50 pictures | seed 0"
    assert first.curve["step"] == [2, 4] and len(first.curve[f"{key}: kernel distance"]) == 2
    assert first.curve[f"{key}: seconds"][0] < first.curve[f"{key}: seconds"][1]
    assert all(f"{key}, {name}: kernel distance" in first.curve for name in TRANSFER_CLASSES)
    samples, _ = load_weights(recipe.NAME, tmp_path / "out")
    assert samples["samples/hyper-modulation"].shape == (2 * len(TRANSFER_CLASSES), 3, 32, 32)

    def no_training(*_, **__):
        pytest.fail("this run was finished")

    monkeypatch.setattr(recipe, "build_variant", lambda *_: None)
    monkeypatch.setattr(Job, "run", no_training)
    assert recipe.train_comparison(job).curve == first.curve
