"""The one widget shell of the course: controls above a picture that a pure function renders. With ``widgets.Image``
rather than ``interact`` the picture is part of the stored state, so pages without a kernel show it."""

import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
from IPython import display
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..figures import picture_html, png_bytes

LABEL_HEIGHT = 22
"""Of the words above the pictures of :func:`labelled`, in pixels."""

SLOW = 0.2
"""Seconds of a picture from which the widget says that it works."""


def slider(description: str, value: float, low: float, high: float, step: float = 1) -> widgets.Widget:
    """A slider of whole numbers where ``value`` is one; it draws nothing until the mouse is released."""
    kind = widgets.IntSlider if isinstance(value, int) else widgets.FloatSlider
    return kind(value, min=low, max=high, step=step, description=description, continuous_update=False)


def choice(options: Sequence[str], value: str | None = None, description: str = "") -> widgets.Widget:
    """A control for one of several names, the first by default: buttons for a few short ones, else a slider. Not a
    drop-down: with one focused, JupyterLab takes the arrow keys and letters for its own commands."""
    settings = {"options": list(options), "value": options[0] if value is None else value, "description": description}
    if len(options) > 6 or sum(map(len, options)) > 60:
        return widgets.SelectionSlider(**settings, continuous_update=False)
    return widgets.ToggleButtons(**settings, style={"button_width": "auto"})


def labelled(pictures: Tensor, labels: Sequence[str], enlarge: int) -> bytes:
    """PNG: pictures ``(N, 3, S, S)`` in a row, enlarged without smoothing, each below one of ``N`` labels."""
    row = Image.open(io.BytesIO(png_bytes(pictures, enlarge=enlarge)))
    sheet = Image.new("RGB", (row.width, row.height + LABEL_HEIGHT), "white")
    sheet.paste(row, (0, LABEL_HEIGHT))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for k, label in enumerate(labels):
        draw.text(((k + 0.5) * row.width / len(labels), LABEL_HEIGHT / 2), label, "black", font, anchor="mm")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


class PictureView:
    """Controls, name → ipywidgets control, and a picture. ``render`` takes the controls' values by name, returns PNG
    bytes, and is pure: same values, same bytes. ``alt`` is what screen readers read."""

    def __init__(self, render: Callable[..., bytes], controls: dict[str, widgets.Widget], alt: str):
        self.render, self.controls = render, controls
        for name, control in controls.items():
            control.description = control.description or name.replace("_", " ")
            control.observe(self._update, names="value")
        # One width for all labels, so that the controls stand in line; beside it a slider's track keeps 300 pixels.
        widest = max((len(control.description) for control in controls.values()), default=0)
        for control in controls.values():
            control.style.description_width = f"{widest + 1}ch"
            if not isinstance(control, widgets.ToggleButtons):
                control.layout.width = f"calc({widest + 1}ch + 300px)"
        self.picture = widgets.Image(format="png")
        self.label, self.message, self.seconds = widgets.Label(alt), widgets.Label(""), 0.0
        self._render()
        width, height = Image.open(io.BytesIO(self.picture.value)).size
        # Of its own size: a box would stretch it to the width of the page.
        self.picture.layout = widgets.Layout(width=f"{width}px", height=f"{height}px", align_self="flex-start")

    def values(self) -> dict[str, Any]:
        return {name: control.value for name, control in self.controls.items()}

    def _render(self) -> None:
        started = time.perf_counter()
        self.picture.value = self.render(**self.values())
        self.seconds = time.perf_counter() - started

    def _update(self, change: Any = None) -> None:
        if self.seconds > SLOW:  # as the last picture was; for a fast one the words would only flicker
            self.message.value = "drawing …"
        try:
            self._render()
            self.message.value = ""
        except Exception as error:  # an exception in a callback would vanish in the kernel's log
            self.message.value = f"{type(error).__name__}: {error}"

    def box(self) -> widgets.VBox:
        return widgets.VBox([*self.controls.values(), self.picture, self.label, self.message])

    def show(self) -> None:
        """Displays it; where no widget can live, as in a notebook that is not trusted yet, its first picture."""
        instead = {"text/html": picture_html(self.picture.value, self.label.value)}
        display.display(self.box()._repr_mimebundle_() | instead, raw=True)
