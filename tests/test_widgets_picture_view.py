"""The widget shell, moved without a browser."""

import ipywidgets as widgets
import pytest
import torch

from course_lib.figures import png_bytes
from course_lib.widgets import PictureView


def render(amount, flip_it):
    if amount > 0.9:
        raise ValueError("too much of it")
    picture = torch.full((1, 3, 8, 8), amount)
    picture[:, :, :4] = -amount if flip_it else amount
    return png_bytes(picture)


@pytest.fixture
def view():
    controls = {
        "amount": widgets.FloatSlider(0.0, min=0.0, max=1.0, step=0.1),
        "flip_it": widgets.Checkbox(False, description="Upside down"),
    }
    return PictureView(render, controls, "A grey square.")


def test_view_starts_with_a_picture(view):
    assert view.picture.value == render(0.0, False) and view.values() == {"amount": 0.0, "flip_it": False}
    assert view.label.value == "A grey square." and view.message.value == ""


def test_controls_are_labelled(view):
    assert [control.description for control in view.controls.values()] == ["amount", "Upside down"]
    assert list(view.box().children) == [*view.controls.values(), view.picture, view.label, view.message]


def test_moving_a_slider_changes_the_picture(view):
    before = view.picture.value
    view.controls["amount"].value = 0.5
    assert view.picture.value == render(0.5, False) != before
    view.controls["flip_it"].value = True
    assert view.picture.value == render(0.5, True)
    view.controls["flip_it"].value, view.controls["amount"].value = False, 0.0
    assert view.picture.value == before, "the same values give the same bytes"


def test_error_in_the_picture_is_shown_and_goes_away(view):
    view.controls["amount"].value = 0.5
    good = view.picture.value
    view.controls["amount"].value = 1.0
    assert view.message.value == "ValueError: too much of it" and view.picture.value == good
    view.controls["amount"].value = 0.6
    assert view.message.value == "" and view.picture.value == render(0.6, False)


def test_show_displays_the_box(view, monkeypatch):
    from IPython import display

    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    view.show()
    assert isinstance(shown[0], widgets.VBox)
