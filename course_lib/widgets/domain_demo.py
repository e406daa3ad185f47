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

from ..data import load_people, to_float
from ..errors import CourseError
from ..experts import load_expert
from ..figures import png_bytes
from ..paths import RUNS
from ..translation import load_flow
from ..translation.domains import DomainTranslator, people_expert
from .animation import save_animation
from .picture_view import PictureView

__all__ = ["DomainDemo", "Edition", "people_demo", "people_edition", "read_upload"]

_ENLARGE = 2
_READ = "as it is"


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
    """A set of domains with its translator, and held-out examples ``(N, 3, S, S)`` with domains ``(N,)``."""

    translator: DomainTranslator
    examples: Tensor
    domains: Tensor


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

    def chosen(self, edition: str, example: int, upload: Any = (), domain: str = "") -> tuple[Tensor, int]:
        """The picture ``(3, S, S)`` that the controls choose, and its domain; an upload takes the one given."""
        one = self.editions[edition]
        if upload:
            names = one.translator.names
            return read_upload(upload[-1]["content"], one.examples.shape[-1]), names.index(domain or names[0])
        example = min(example, len(one.examples) - 1)
        return one.examples[example], int(one.domains[example])

    def changes(self, edition: str, changed: Mapping[str, str]) -> dict[str, int]:
        """Attribute → class number, of the attributes that this edition has and that are to change.

        Raises:
            CourseError: an attribute does not have this value.
        """
        classes = self.editions[edition].translator.classes
        wanted = {name: value for name, value in changed.items() if name in classes and value not in ("", _READ)}
        for name, value in wanted.items():
            if value not in classes[name]:
                raise CourseError(f"{name} is never {value!r}: choose one of {', '.join(classes[name])}.")
        return {name: classes[name].index(value) for name, value in wanted.items()}

    def translations(self, edition: str, example: int, upload: Any = (), domain: str = "", **changed: str) -> Tensor:
        """``(1 + K, 3, S, S)``: the input, then the picture under every label."""
        picture, own = self.chosen(edition, example, upload, domain)
        translator = self.editions[edition].translator
        device = next(translator.flow.parameters()).device
        values = {name: torch.tensor([value]) for name, value in self.changes(edition, changed).items()}
        columns = translator.under_every_label(picture[None].to(device), torch.tensor([own]), values)[0]
        return torch.cat([picture[None], columns.cpu()])

    def samples(
        self, edition: str, example: int, count: int, seed: int, upload: Any = (), domain: str = "",
        spread: float = 0.3, **changed: str,
    ) -> Tensor:  # fmt: skip
        """``(count, K, 3, S, S)``: samples around the picture, one row each, one column per label; a row shares its
        ``v``, see :meth:`DomainTranslator.vary`."""
        translator = self.editions[edition].translator
        picture, own = self.chosen(edition, example, upload, domain)
        device, generator = next(translator.flow.parameters()).device, torch.Generator().manual_seed(seed)
        values = self.changes(edition, changed)
        return translator.vary(picture.to(device), own, count, spread, generator, values).cpu()

    def animate(
        self, edition: str, example: int, other: str, upload: Any = (), domain: str = "", frames: int = 125,
        suffix: str = ".webp", **changed: str,
    ) -> Path:  # fmt: skip
        """Saves the way from the picture's latent to its translation as a film of 25 frames a second.

        Raises:
            CourseError: ``other`` is none of this edition's labels.
        """
        translator = self.editions[edition].translator
        picture, own = self.chosen(edition, example, upload, domain)
        if other not in translator.names:
            raise CourseError(f"the animation goes to a label: choose one of {', '.join(translator.names)}.")
        device, values = next(translator.flow.parameters()).device, self.changes(edition, changed)
        way = translator.path(picture.to(device), own, translator.names.index(other), frames, values).cpu()
        stem = f"{edition}-{translator.names[own]}-to-{other}".replace(" ", "-").replace(",", "")
        return save_animation(way, self.folder / f"{stem}{suffix}")

    def render(
        self, edition: str, example: int, upload: Any = (), domain: str = "", count: int = 2, spread: float = 0.3,
        seed: int = 0, **changed: str,
    ) -> bytes:  # fmt: skip
        """PNG: input and translations in the first row, samples below. Same values, same bytes."""
        first = self.translations(edition, example, upload, domain, **changed)
        below = self.samples(edition, example, count, seed, upload, domain, spread, **changed)
        blank = torch.ones_like(below[:, :1])
        below = torch.cat([blank, below], 1).flatten(0, 1)
        return _compact(png_bytes(torch.cat([first, below]), columns=len(first), enlarge=_ENLARGE))

    def view(self) -> widgets.VBox:
        """The whole demo; its parts hang on the box as ``main``, ``target``, ``animate``, ``again`` and ``film``."""
        names = list(self.editions)
        edition = widgets.Dropdown(options=names, value=names[0], description="edition")
        example = widgets.IntSlider(0, 0, 1, description="example", continuous_update=False)
        domain = widgets.Dropdown(description="label of an upload")
        target = widgets.Dropdown(description="animate to label")
        attributes = list(
            dict.fromkeys(name for one in self.editions.values() for name in list(one.translator.classes)[1:])
        )
        changed = {name: widgets.Dropdown(options=[_READ], description=name) for name in attributes}

        def follow(change: Any = None) -> None:
            # Registered before the view's own observer, so that it never sees labels of another edition.
            one = self.editions[edition.value]
            example.max = len(one.examples) - 1
            domain.options = one.translator.names
            domain.value = one.translator.names[0]
            target.options = one.translator.names
            target.value = one.translator.names[-1]
            for name, control in changed.items():
                control.options = [_READ, *one.translator.classes.get(name, [])]
                control.value = _READ

        edition.observe(follow, names="value")
        follow()
        controls = {
            "edition": edition,
            "example": example,
            "upload": widgets.FileUpload(accept="image/*", multiple=False, description="upload a picture"),
            "domain": domain,
            **changed,
            "count": widgets.IntSlider(2, 1, 4, description="samples", continuous_update=False),
            "spread": widgets.FloatSlider(
                0.3, min=0.0, max=1.0, step=0.1, description="spread", continuous_update=False
            ),
            "seed": widgets.BoundedIntText(0, min=0, max=9999, description="seed"),
        }
        alt = "First row: the input and the picture under every label. Below: samples, a row shares its v."
        main = PictureView(self.render, controls, alt)
        again, animate = widgets.Button(description="sample again"), widgets.Button(description="animate translation")
        film, note = widgets.Image(format="webp", layout=widgets.Layout(display="none")), widgets.Label("")
        header = widgets.HTML()

        def name_columns(change: Any = None) -> None:
            titles = ["input", *self.editions[edition.value].translator.names]
            width = int(main.picture.layout.width.removesuffix("px")) / len(titles)
            cells = "".join(f'<span style="width:{width:.1f}px;text-align:center">{title}</span>' for title in titles)
            header.value = f'<div style="display:flex">{cells}</div>'

        edition.observe(name_columns, names="value")
        name_columns()

        def sample_again(_: Any) -> None:
            controls["seed"].value = (controls["seed"].value + 1) % 10000

        def make_film(_: Any) -> None:
            try:
                kept = ("edition", "example", "upload", "domain", *changed)
                path = self.animate(other=target.value, **{name: main.values()[name] for name in kept})
                film.value, note.value = path.read_bytes(), f"saved as {path.name} in {path.parent.name}"
                film.layout.display = None
            except CourseError as error:
                note.value = str(error)

        again.on_click(sample_again)
        animate.on_click(make_film)
        target.style.description_width = "initial"
        pictures = widgets.VBox([header, main.picture, main.label, main.message])
        # Side by side where the page is wide enough, else the pictures below the controls.
        whole = widgets.HBox(
            [widgets.VBox(list(controls.values())), pictures], layout=widgets.Layout(flex_flow="row wrap")
        )
        box = widgets.VBox([whole, again, target, animate, film, note])
        box.main, box.target, box.animate, box.again, box.film, box.note = main, target, animate, again, film, note
        return box


def people_edition(device: str | torch.device = "cpu", examples: int = 12) -> Edition:
    """The six styles of people with the shipped flow, and some test people, each in one of the styles."""
    people = load_people()
    test, classes = people.part("test"), people.classes
    names = classes["style"]
    experts = [load_expert(name, device) for name in ("avatar-autoencoder", "avatar-classifier")]
    translator = DomainTranslator(
        classes, load_flow("people-labels", device), experts[0], people_expert(classes), experts[1]
    )
    count, domains = len(test) // len(names), torch.arange(examples) % len(names)
    return Edition(translator, test.batch(domains * count + torch.linspace(0, count - 1, examples).long()), domains)


def people_demo(device: str | torch.device = "cpu") -> DomainDemo:
    """What ``make demo`` serves."""
    return DomainDemo({"six styles": people_edition(device)}, RUNS / "films")
