"""Generators that draw pixels instead of latents: ``course train NAME -p space=pixels``."""

import pytest

from course_lib import recipes
from course_lib.errors import CourseError
from course_lib.generation import open_generator
from course_lib.profiles import Profile
from course_lib.recipes import generators
from course_lib.recipes.recipe import Job


@pytest.mark.parametrize("name", recipes.GENERATORS)
def test_a_generator_of_pixels_is_trained_published_and_opened(name, tmp_path, monkeypatch):
    monkeypatch.setattr(generators, "_PIXELS", (8,) * 5)
    # Scores are those of latents, and take a minute.
    monkeypatch.setattr(generators, "unseen_people", lambda: None)
    monkeypatch.setattr(generators, "score_samples", lambda draw, *_: {generators.FRECHET: 1.0})
    monkeypatch.setattr(generators, "path_length", lambda *_, **__: 0.0)
    card = recipes.train(name, "quick", steps=2, space="pixels", out=tmp_path, work=tmp_path / "work")
    assert card.name == f"{name}-pixels" and "space" not in card.recipe
    made = open_generator(tmp_path / card.name)
    labels = made.vectors_of(made.classes[:2]) if made.classes else None
    pictures = made.draw(made.latents(2, seed=0), labels)
    assert made.size == 64 and made.space is None and pictures.shape == (2, 3, 64, 64) and pictures.std() > 0


def test_space_is_checked_before_anything_runs():
    with pytest.raises(CourseError, match="latents or pixels"):
        recipes.check("avatar-stylegan", Job(Profile("quick"), space="voxels"))
    with pytest.raises(CourseError, match="superresolution-8 does not train a generator"):
        recipes.check("superresolution-8", Job(Profile("quick"), space="pixels"))
