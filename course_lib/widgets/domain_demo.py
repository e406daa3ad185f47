"""The interactive demo of the Net2Net authors: a picture under every label, the way from label to label, samples."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..data import to_float
from ..errors import CourseError
from ..figures import png_bytes
from ..translation.domains import DomainTranslator
from .animation import save_animation
from .picture_view import PictureView

__all__ = ["DomainDemo", "Edition", "read_upload"]

_ENLARGE = 2


def read_upload(content: bytes, size: int) -> Tensor:
    """Any picture file as ``(3, size, size)`` in [−1, 1]: whole, upright, letterboxed on white.

    Raises:
        CourseError: the bytes are no picture that can be decoded.
    """
    try:
        with Image.open(io.BytesIO(bytes(content))) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    except Exception as error:  # decoders raise a dozen unrelated types on damaged bytes
        raise CourseError("this file is no picture that can be read: upload a PNG, JPEG, WebP or GIF file.") from error
    padded = ImageOps.pad(picture, (size, size), Image.Resampling.LANCZOS, color="white")
    return to_float(torch.from_numpy(np.array(padded)).permute(2, 0, 1).contiguous())


def _compact(png: bytes) -> bytes:
    """The same picture in 128 colours, a third of the size: it is stored with the notebook as the widget's state."""
    buffer = io.BytesIO()
    few = Image.open(io.BytesIO(png)).quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@dataclass(frozen=True)
class Edition:
    """A set of domains with its translator, and held-out examples ``(N, 3, S, S)`` with labels ``(N,)``."""

    translator: DomainTranslator
    examples: Tensor
    labels: Tensor


class DomainDemo:
    """Everything that the demo shows, as functions of its controls.

    Args:
        editions: name → edition, one or more.
        folder: where animations are saved.

    Raises:
        CourseError: no edition.
    """

    def __init__(self, editions: Mapping[str, Edition], folder: Path | str):
        if not editions:
            raise CourseError("the demo needs an edition: a translator with some examples.")
        self.editions, self.folder = dict(editions), Path(folder)

    def chosen(self, edition: str, example: int, upload: Any = (), label: str = "") -> tuple[Tensor, int]:
        """The picture ``(3, S, S)`` that the controls choose, and its label; an upload takes the label given."""
        one = self.editions[edition]
        if upload:
            names = one.translator.names
            return read_upload(upload[-1]["content"], one.examples.shape[-1]), names.index(label or names[-1])
        example = min(example, len(one.examples) - 1)
        return one.examples[example], int(one.labels[example])

    def translations(
        self, edition: str, example: int, upload: Any = (), label: str = "", detail: float = 0.0, amount: float = 1.0
    ) -> Tensor:
        """``(1 + K − 1, 3, S, S)``: the input, then its translation under each other label."""
        picture, own = self.chosen(edition, example, upload, label)
        device = next(self.editions[edition].translator.flow.parameters()).device
        columns = (
            self.editions[edition]
            .translator.under_every_label(picture[None].to(device), torch.tensor([own]), detail, amount)[0]
            .cpu()
        )
        return torch.cat([picture[None], columns[torch.arange(len(columns)) != own]])

    def samples(
        self, edition: str, example: int, count: int, seed: int, upload: Any = (), label: str = "", spread: float = 0.3
    ) -> Tensor:
        """``(count, K, 3, S, S)``: samples around the picture, one row each, one column per label; a row shares its
        ``v``, see :meth:`DomainTranslator.vary`."""
        translator = self.editions[edition].translator
        picture, own = self.chosen(edition, example, upload, label)
        device = next(translator.flow.parameters()).device
        return translator.vary(picture.to(device), own, count, spread, torch.Generator().manual_seed(seed)).cpu()

    def animate(
        self, edition: str, example: int, other: str, upload: Any = (), label: str = "", frames: int = 125,
        suffix: str = ".webp",
    ) -> Path:  # fmt: skip
        """Saves the way from the picture's latent to its translation as a film of 25 frames a second.

        Raises:
            CourseError: ``other`` is the picture's own label or none of this edition.
        """
        translator = self.editions[edition].translator
        picture, own = self.chosen(edition, example, upload, label)
        others = [name for k, name in enumerate(translator.names) if k != own]
        if other not in others:
            raise CourseError(f"the animation goes to another label: choose one of {', '.join(others)}.")
        device = next(translator.flow.parameters()).device
        way = translator.path(picture.to(device), own, translator.names.index(other), frames).cpu()
        stem = f"{edition}-{translator.names[own]}-to-{other}".replace(" ", "-").replace(",", "")
        return save_animation(way, self.folder / f"{stem}{suffix}")

    def render(
        self, edition: str, example: int, upload: Any = (), label: str = "", detail: float = 0.0,
        amount: float = 1.0, count: int = 2, spread: float = 0.3, seed: int = 0,
    ) -> bytes:  # fmt: skip
        """PNG: input and translations in the first row, samples below. Same values, same bytes."""
        first = self.translations(edition, example, upload, label, detail, amount)
        below = self.samples(edition, example, count, seed, upload, label, spread).flatten(0, 1)
        return _compact(png_bytes(torch.cat([first, below]), columns=len(first), enlarge=_ENLARGE))

    def view(self) -> widgets.VBox:
        """The whole demo; its parts hang on the box as ``main``, ``target``, ``animate``, ``again`` and ``film``."""
        names = list(self.editions)
        edition = widgets.Dropdown(options=names, value=names[0], description="model edition")
        example = widgets.IntSlider(0, 0, 1, description="example from the held-out set", continuous_update=False)
        label = widgets.Dropdown(description="label of an upload")
        target = widgets.Dropdown(description="animation target label")

        def follow(change: Any = None) -> None:
            # Registered before the view's own observer, so that it never sees labels of another edition.
            one = self.editions[edition.value]
            example.max = len(one.examples) - 1
            label.options = one.translator.names[::-1]
            target.options = one.translator.names
            target.value = one.translator.names[-1]

        edition.observe(follow, names="value")
        follow()
        controls = {
            "edition": edition,
            "example": example,
            "upload": widgets.FileUpload(accept="image/*", multiple=False, description="upload a picture"),
            "label": label,
            "detail": widgets.FloatSlider(
                0.5, min=0.0, max=1.0, step=0.25, description="detail carried over", continuous_update=False
            ),
            "amount": widgets.FloatSlider(
                0.7, min=0.0, max=1.0, step=0.1, description="how far to the label", continuous_update=False
            ),
            "count": widgets.IntSlider(2, 1, 4, description="number of samples", continuous_update=False),
            "spread": widgets.FloatSlider(
                0.3, min=0.0, max=1.0, step=0.1, description="spread of the samples", continuous_update=False
            ),
            "seed": widgets.BoundedIntText(0, min=0, max=9999, description="seed of the samples"),
        }
        alt = "First row: the input and its translation under every other label. Below: samples, a row shares its v."
        main = PictureView(self.render, controls, alt)
        again, animate = widgets.Button(description="sample again"), widgets.Button(description="animate translation")
        film, note = widgets.Image(format="webp"), widgets.Label("")

        def sample_again(_: Any) -> None:
            controls["seed"].value = (controls["seed"].value + 1) % 10000

        def make_film(_: Any) -> None:
            try:
                values = {name: main.values()[name] for name in ("edition", "example", "upload", "label")}
                path = self.animate(other=target.value, **values)
                film.value, note.value = path.read_bytes(), f"saved as {path.name} in {path.parent.name}"
            except CourseError as error:
                note.value = str(error)

        again.on_click(sample_again)
        animate.on_click(make_film)
        box = widgets.VBox([main.box(), again, target, animate, film, note])
        box.main, box.target, box.animate, box.again, box.film, box.note = main, target, animate, again, film, note
        return box
