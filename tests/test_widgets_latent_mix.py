"""The mixer of notebook 01: its pure part, and the widget without a browser."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.figures import png_bytes
from course_lib.widgets.walks import latent_mix_view


def decode(latents):
    """Three latent numbers as a flat colour."""
    return latents[:, :, None, None].expand(-1, 3, 8, 8).clamp(-1, 1)


A, B, STEP = torch.tensor([-1.0, 0.0, 0.5]), torch.tensor([1.0, 0.5, 0.5]), torch.tensor([0.0, 0.25, 0.0])


def view():
    return latent_mix_view(decode, {"a": A, "b": B, "c": A + STEP}, {"up": STEP}, "three colours")


def test_the_pictures_are_start_mixture_and_end():
    mixer = view()
    start, middle, end = A, (A + B) / 2 + 2 * STEP, B
    wanted = png_bytes(decode(torch.stack([start, middle, end])), enlarge=3)
    assert mixer.render("a", "b", 0.5, "up", 2.0) == wanted


def test_moving_a_control_changes_the_picture_and_back():
    mixer = view()
    first = bytes(mixer.picture.value)
    assert first.startswith(b"\x89PNG")
    mixer.controls["amount"].value = 1.0
    assert bytes(mixer.picture.value) != first
    mixer.controls["amount"].value = 0.5
    assert bytes(mixer.picture.value) == first and mixer.message.value == ""
    mixer.controls["strength"].value = 1.0
    assert bytes(mixer.picture.value) != first
    mixer.controls["second"].value = "c"
    assert mixer.message.value == ""


def test_the_controls_are_labelled_and_wait_for_release():
    mixer = view()
    assert all(control.description for control in mixer.controls.values())
    assert not mixer.controls["amount"].continuous_update and not mixer.controls["strength"].continuous_update


def test_too_little_to_mix_is_explained():
    with pytest.raises(CourseError, match="two pictures"):
        latent_mix_view(decode, {"a": A}, {"up": STEP}, "one colour")
    with pytest.raises(CourseError, match="direction"):
        latent_mix_view(decode, {"a": A, "b": B}, {}, "two colours")
