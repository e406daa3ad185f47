"""The one widget shell of the course: controls above a picture that a pure function renders.

It uses ``widgets.Image`` and ``observe`` rather than ``interact``: the picture is part of the stored widget state, so
pages without a kernel show it, and a test can move a slider without a browser.
"""

import io
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from PIL import Image

__all__ = ["PictureView"]


class PictureView:
    """Controls and a picture.

    Args:
        render: takes the controls' values by name, returns PNG bytes. It must be pure: same values, same bytes.
        controls: name → ipywidgets control; each gets its name as label if it has none.
        alt: what the picture shows, for screen readers; read out as the picture's label.

    Example:
        >>> view = PictureView(lambda amount: png_bytes(walk(amount)), {"amount": widgets.FloatSlider(max=1.0)}, "…")
        >>> view.show()
    """

    def __init__(self, render: Callable[..., bytes], controls: dict[str, widgets.Widget], alt: str):
        self.render, self.controls = render, controls
        for name, control in controls.items():
            if not control.description:
                control.description = name.replace("_", " ")
            control.observe(self._update, names="value")
        # One width for all labels, so that the controls stand in line and no label is cut off; beside it every control
        # keeps 300 pixels, or its slider would have no track.
        widest = max((len(control.description) for control in controls.values()), default=0)
        for control in controls.values():
            control.style.description_width = f"{widest + 1}ch"
            if not isinstance(control, widgets.ToggleButtons):
                control.layout.width = f"calc({widest + 1}ch + 300px)"
        self.picture = widgets.Image(value=render(**self.values()), format="png")
        width, height = Image.open(io.BytesIO(self.picture.value)).size
        # Of its own size: a box would stretch it to the width of the page.
        self.picture.layout = widgets.Layout(width=f"{width}px", height=f"{height}px", align_self="flex-start")
        self.label = widgets.Label(alt)
        self.message = widgets.Label("")

    def values(self) -> dict[str, Any]:
        """Current value of every control."""
        return {name: control.value for name, control in self.controls.items()}

    def _update(self, change: Any = None) -> None:
        try:
            self.picture.value = self.render(**self.values())
            self.message.value = ""
        except Exception as error:  # an exception in a callback would vanish in the kernel's log
            self.message.value = f"{type(error).__name__}: {error}"

    def box(self) -> widgets.VBox:
        """The assembled widget."""
        return widgets.VBox([*self.controls.values(), self.picture, self.label, self.message])

    def show(self) -> None:
        """Displays it."""
        from IPython.display import display

        display(self.box())
