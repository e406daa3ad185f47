"""Recipes of translators: every specification is complete, and what one trains opens again."""

import inspect
from importlib import import_module

import pytest
import torch

from course_lib.profiles import Profile
from course_lib.recipes import RECIPES, translators
from course_lib.recipes.recipe import Job
from course_lib.translation import load_choice, load_flow, load_regressor
from course_lib.translation.translator import SOURCES


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A few steps on a few people."""
    people = translators.load_people()
    few = people.subset(torch.arange(0, len(people), len(people) // 400))
    monkeypatch.setattr(translators, "load_people", lambda: few)
    monkeypatch.setattr(translators, "fresh_people", lambda each, styles: few.part("train"))
    return Job(Profile("quick"), tmp_path / "out", tmp_path / "work", steps=2)


def test_every_recipe_is_a_function_that_takes_what_is_given():
    for name, (module, function, *arguments) in RECIPES.items():
        trainer = getattr(import_module(f"course_lib.recipes.{module}"), function)
        inspect.signature(trainer).bind(None, *arguments)
        if function == "train_translator":
            flow, *mlp = arguments
            assert flow in translators.TRANSLATORS and name == flow + ("-mlp" if mlp else "")
    assert set(SOURCES) <= set(translators.TRANSLATORS)


@pytest.mark.parametrize("name", ["superresolution-8", "edges-shape", "shape-appearance"])
def test_what_a_recipe_trains_opens_again(job, monkeypatch, name):
    small = {"hidden_dim": 4, "blocks": 2}
    spec = translators.TRANSLATORS[name]
    changed = translators.replace(spec, sizes=small, scored=20 if spec.scored else None)
    monkeypatch.setitem(translators.TRANSLATORS, name, changed)
    monkeypatch.setattr(translators, "_CROSSED", 3)
    card = translators.train_translator(job, name)
    loaded = load_choice(name, folder=job.out).flow if spec.pooled else load_flow(name, folder=job.out)
    assert loaded.config.blocks == 2 and card.steps == 2
    where = "20 of val" if spec.pooled else "val"
    primary = f"nats on {where}" if spec.pooled else "nats per picture on val"
    assert {primary, f"frechet on {where}", f"consistency on {where}"} <= set(card.metrics)
    assert (f"frechet (edges) on {where}" in card.metrics) == (name == "edges-shape")
    assert (f"frechet of crossings on {where}" in card.metrics) == (name == "shape-appearance")
    # Three pictures may all have the same value of an attribute.
    shares = [key for key in card.metrics if " from the " in key]
    assert all(torch.tensor(value).isfinite() for key, value in card.metrics.items() if key not in shares)


def test_a_baseline_sees_the_pairs_of_its_flow(job):
    card = translators.train_translator(job, "superresolution-8", mlp=True)
    assert load_regressor("superresolution-8-mlp", folder=job.out).width == 96
    assert {"psnr on val", "error on test"} <= set(card.metrics)
