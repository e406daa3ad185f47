"""Figures: alternative text, sizes, and pictures whose pixels are right."""

import html
import io
import re

import matplotlib
import numpy as np
import pytest
import torch
from IPython import display
from PIL import Image

from course_lib import figures
from course_lib.runner.session import stored_picture


@pytest.fixture
def shown(monkeypatch):
    calls = []
    monkeypatch.setattr(display, "display", lambda data, **options: calls.append((data, options)))
    return calls


def test_shown_figure_carries_its_alternative_text(shown):
    figure = figures.curves({"loss": ([1, 2, 3], [3.0, 2.0, 1.0])}, "step", "nats")
    figures.show(figure, 'The "loss" falls\nfrom 3 to 1.')
    ((data, options),) = shown
    content, kind, alt = stored_picture({"data": data})
    assert content.startswith(b"\x89PNG") and kind == "image/png" and alt == 'The "loss" falls from 3 to 1.'
    assert data.keys() == {"text/html", "text/plain"} and options == {"raw": True}


def test_grids_are_shown_as_webp(shown):
    figures.show(figures.picture_grid(torch.zeros(1, 2, 3, 64, 64)), "Two grey squares.")
    content, kind, alt = stored_picture({"data": shown[0][0]})
    assert content[8:12] == b"WEBP" and kind == "image/webp" and alt == "Two grey squares."
    assert 'width="' in shown[0][0]["text/html"]


@pytest.mark.parametrize("alt", ["", "   ", "\n"])
def test_figure_without_alternative_text_is_refused(shown, alt):
    with pytest.raises(ValueError, match="alternative text"):
        figures.show(figures.curves({"a": ([1], [1.0])}, "x", "y"), alt)
    assert shown == []


NAMES = ["Ba$$in", "US$ and A$", "_hidden", "$x^2$", "a_b^c", "\\frac{", "\\$1", "100 %", "$"]


def drawn(figure):
    """The SVG, in which text is text."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    return html.unescape(re.sub("<!--.*?-->", "", buffer.getvalue(), flags=re.DOTALL))


@pytest.mark.parametrize("name", NAMES)
def test_names_of_classes_are_no_mathematics(name):
    """Wherever a label can stand: titles, legends, axes, ticks."""
    lines = figures.curves({name: ([1, 2], [1.0, 1e4]), "b": ([1, 2], [2.0, 3.0])}, "x", "y", log_y=True)
    assert [text.get_text() for text in lines.axes[0].get_legend().get_texts()] == [name, "b"]
    grid = figures.picture_grid(torch.zeros(1, 1, 3, 8, 8), [name], [name], name)
    bars, (axes,) = figures.new_figure()
    axes.bar([name, "b"], [1, 2])
    ticks, (second,) = figures.new_figure()
    second.set_xticks([0, 1], [name, "b"])
    for figure in (lines, grid, bars, ticks):
        assert name in drawn(figure)
    assert "mathdefault" not in drawn(lines), "powers of ten stay powers"


def test_curves_differ_in_colour_and_marker():
    lines = {f"line {k}": (range(5), np.arange(5.0) + k + 1) for k in range(7)}
    (axes,) = figures.curves(lines, "step", "nats", "title", log_y=True).axes
    styles = {(line.get_color(), line.get_marker()) for line in axes.get_lines()}
    assert len({colour for colour, _ in styles}) == len({marker for _, marker in styles}) == 7
    assert axes.get_yscale() == "log" and axes.get_legend() is not None
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("step", "nats", "title")


def test_new_figure_lists_its_axes():
    figure, axes = figures.new_figure(columns=3, rows=2)
    assert len(axes) == 6 and list(figure.axes) == axes


def test_grid_of_pictures_of_several_sizes():
    rows = [torch.rand(3, 3, 16, 16), torch.rand(3, 3, 64, 64) * 4 - 2, torch.rand(2, 3, 64, 64)]
    figure = figures.picture_grid(rows, ["low", "high", "few"], ["a", "b", "c"], "title")
    assert len(figure.axes) == 8
    assert [axes.get_title() for axes in figure.axes[:3]] == ["a", "b", "c"]
    assert [figure.axes[k].get_ylabel() for k in (0, 3, 6)] == ["low", "high", "few"]
    assert figure.axes[0].images[0].get_interpolation() == "nearest"
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert Image.open(buffer).width > 200


def test_grid_without_titles_takes_one_tensor():
    assert len(figures.picture_grid(torch.zeros(2, 4, 3, 8, 8), enlarge=4).axes) == 8


@pytest.mark.parametrize(("side", "enlarge"), [(64, 2), (64, 3), (32, 2), (28, 3), (128, 1)])
def test_a_grid_shows_every_pixel_of_its_pictures_without_blur(side, enlarge):
    pictures = torch.rand(2, 3, 3, side, side) * 2 - 1
    buffer = io.BytesIO()
    figures.picture_grid(pictures, ["row"] * 2, ["column"] * 3, enlarge=enlarge).savefig(buffer, format="png")
    shown = set(map(tuple, np.asarray(Image.open(buffer).convert("RGB")).reshape(-1, 3).tolist()))
    inside = (pictures[..., 2:-2, 2:-2] + 1).mul(127.5).round().byte().movedim(2, -1).reshape(-1, 3).tolist()
    assert set(map(tuple, inside)) <= shown


def test_colours_of_a_shown_grid_are_right(shown):
    """A picture of rare colours among many of common ones: a palette may round colours, not exchange them."""
    few, many = torch.rand(1, 8, 3, 64, 64) * 0.2 - 0.1, torch.tensor([-0.7, 0.2, 0.6])
    few[0, 0, :, :8] = many[:, None, None]
    figures.show(figures.picture_grid(few), "Grey noise, and a blue bar.")
    colours = np.asarray(Image.open(io.BytesIO(stored_picture({"data": shown[0][0]})[0])).convert("RGB")).reshape(-1, 3)
    wanted = ((many + 1) * 127.5).round().numpy()
    assert np.abs(colours.astype(float) - wanted).max(1).min() < 8


def test_png_bytes_keeps_every_pixel():
    pictures = torch.stack([torch.full((3, 4, 4), value) for value in (-1.0, 0.0, 1.0)])
    pictures[0, 0, 1, 2] = 7.0  # beyond the range, so clamped to red
    sheet = np.asarray(Image.open(io.BytesIO(figures.png_bytes(pictures, columns=2, enlarge=1))))
    assert sheet.shape == (12, 12, 3)
    assert sheet[2, 3].tolist() == [255, 0, 0] and sheet[1, 1].tolist() == [0, 0, 0]
    assert sheet[1, 7].tolist() == [128, 128, 128] and sheet[7, 1].tolist() == [255, 255, 255]
    assert sheet[0, 0].tolist() == [255, 255, 255], "the gap is white"
    large = np.asarray(Image.open(io.BytesIO(figures.png_bytes(pictures, columns=2, enlarge=3))))
    assert np.array_equal(large[1::3, 1::3], sheet)


def test_png_bytes_are_the_same_for_the_same_pictures():
    pictures = torch.rand(5, 3, 16, 16)
    assert figures.png_bytes(pictures) == figures.png_bytes(pictures.clone())
    assert Image.open(io.BytesIO(figures.png_bytes(pictures))).size == (5 * 18 * 2, 18 * 2)
