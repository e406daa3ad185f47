"""The widget shell, moved without a browser."""

import base64

import ipywidgets as widgets
import pytest
import torch

from course_lib.figures import png_bytes
from course_lib.widgets.picture_view import PictureView, choice


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


def test_show_displays_the_widget_and_a_picture_for_pages_without_widgets(view, monkeypatch):
    from IPython import display

    shown = []
    monkeypatch.setattr(display, "display", lambda data, raw: shown.append(data))
    view.label.value = 'A "grey" square.'
    view.show()
    assert "application/vnd.jupyter.widget-view+json" in shown[0]
    assert 'alt="A &quot;grey&quot; square."' in shown[0]["text/html"]
    assert base64.b64encode(view.picture.value).decode() in shown[0]["text/html"]


def test_a_slow_picture_says_that_it_is_drawn(view):
    seen = []
    view.message.observe(lambda change: seen.append(change["new"]), names="value")
    view.controls["amount"].value = 0.2
    assert seen == []
    view.seconds = 1.0
    view.controls["amount"].value = 0.3
    assert seen == ["drawing …", ""] and view.seconds < 1


def test_a_choice_is_buttons_for_a_few_names_and_a_slider_for_many():
    few, many = choice(["w", "z"]), choice([f"sample number {k}" for k in range(9)], "sample number 3", "which")
    assert isinstance(few, widgets.ToggleButtons) and few.value == "w"
    assert isinstance(many, widgets.SelectionSlider) and many.value == "sample number 3"
