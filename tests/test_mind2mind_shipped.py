"""A transferred GAN as a file, the recipe that makes it, and the walk through it."""

import io

import pytest
import torch
from PIL import Image

from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.evaluation.features import FeatureNetwork
from course_lib.experts import Autoencoder, AutoencoderConfig, fingerprint, freeze
from course_lib.mind2mind import MindConfig, MindCritic, MindGenerator, TransferredGAN, open_transferred, shipped
from course_lib.mind2mind.shipped import new_tensors
from course_lib.profiles import Profile
from course_lib.recipes import mind2mind as recipe
from course_lib.recipes.recipe import Job
from course_lib.training import Card, load_card, save_weights
from course_lib.widgets.code_walk import CodeWalk

SMALL = MindConfig(5, 4, (16, 16), (16, 16))


@pytest.fixture
def expert():
    torch.manual_seed(0)
    return freeze(Autoencoder(AutoencoderConfig(16, 5, (4, 4), (4, 4))))


@pytest.fixture
def gan(expert):
    return TransferredGAN(MindGenerator(SMALL), expert, MindCritic(SMALL), torch.randn(20, 5))


def test_the_recipe_trains_ships_and_reopens_with_the_expert_untouched(monkeypatch, expert, tmp_path):
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8)
    data = ImageSet("tiny", images, split=torch.arange(24) % 3)
    pixels = FeatureNetwork("pixels", "pixels", lambda x: x.mean((2, 3)), lambda x: x.mean((2, 3)))
    monkeypatch.setattr(recipe, "judge_features", lambda: pixels)
    for module in (recipe, shipped):
        monkeypatch.setattr(module, "load_expert", lambda name, *_: {"autoencoder64": expert}[name])
    before = fingerprint(expert)
    job = Job(Profile("quick"), tmp_path / "out", tmp_path / "work", steps=3)
    recipe._train(
        job, "mind2mind64", "autoencoder64", "tiny", data, SMALL, {"batch_size": 8, "steps": 3, "average": 0.9}
    )
    assert fingerprint(expert) == before
    card = load_card("mind2mind64", job.out)
    assert card.steps == 3 and card.config["source"] == "autoencoder64" and card.config["target"] == "tiny"
    assert {name.rpartition(" ")[2] for name in card.metrics} == {"val", "test"}
    opened = open_transferred("mind2mind64", folder=job.out)
    assert opened.generator.config == SMALL and opened.expert is expert
    assert opened.sample(3).shape == (3, 3, 16, 16) and opened.score(opened.sample(3)).shape == (3,)
    assert not any(p.requires_grad for p in opened.generator.parameters())
    assert torch.equal(opened.codes(opened.noise(2), 0.0), opened.mean.expand(2, -1))


def test_what_is_stored_comes_back(gan, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "load_expert", lambda *_: gan.expert)
    card = Card("some", shipped.KIND, shipped.transfer_config(gan, "autoencoder64", "tiny"))
    save_weights(new_tensors(gan), card, tmp_path, bits=32)
    opened = open_transferred("some", folder=tmp_path)
    assert torch.equal(opened.draw(gan.noise(4)), gan.draw(gan.noise(4))) and torch.allclose(opened.mean, gan.mean)
    save_weights({}, Card("other", "classifier", {}), tmp_path)
    with pytest.raises(CourseError, match="not a MindGAN"):
        open_transferred("other", folder=tmp_path)
    with pytest.raises(CourseError, match="critic="):
        new_tensors(TransferredGAN(gan.generator, gan.expert))


# --- the walk ----------------------------------------


def test_both_walks_begin_and_end_at_the_samples_and_differ_between(gan):
    walk = CodeWalk({"one": gan}, samples=3)
    ends = gan.draw(walk.noise["one"][[0, 2]])
    strips = {space: walk.strip("one", 0, 2, (0.0, 0.5, 1.0), space) for space in ("z", "w")}
    for strip in strips.values():
        torch.testing.assert_close(strip[[0, 2]], ends)
    assert not torch.allclose(strips["z"][1], strips["w"][1])
    flat = walk.strip("one", 0, 1, (0.0, 1.0), truncation=0.0)
    torch.testing.assert_close(flat[0], flat[1])


def test_the_view_moves_and_is_pure(gan):
    walk = CodeWalk({"one": gan, "two": TransferredGAN(MindGenerator(SMALL), gan.expert, codes=torch.randn(9, 5))})
    view = walk.view()
    base = view.values()
    assert walk.render(**base) == walk.render(**base) == view.picture.value
    assert Image.open(io.BytesIO(view.picture.value)).width >= 3 * 16 * 5
    changes = {"target": "two", "first": 3, "second": 4, "way": 0.1, "truncation": 0.3, "space": "z"}
    for name, value in changes.items():
        assert walk.render(**(base | {name: value})) != walk.render(**base), name
        view.controls[name].value = value
    assert view.picture.value == walk.render(**(base | changes)) and not view.message.value


def test_impossible_walks_are_refused(gan):
    for call in (
        lambda: CodeWalk({}, 3),
        lambda: CodeWalk({"one": gan}, 1),
        lambda: CodeWalk({"one": gan}).strip("one", 0, 1, (0.5,), "x"),
    ):
        with pytest.raises(CourseError):
            call()
