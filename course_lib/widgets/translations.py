"""Translations by hand: typed sentences, another source for a picture, a residual under another condition, and the demo
of the Net2Net authors: a picture under every label, the way from label to label, samples."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from ipywidgets import BoundedIntText, SelectionSlider, Text
from PIL import Image, ImageOps
from torch import Tensor

from ..data.avatars import load_people
from ..data.image_set import to_float
from ..errors import CourseError
from ..experts.protocol import load_expert
from ..figures import png_bytes
from ..profiles import RUNS
from ..translation.domains import DomainTranslator, people_expert
from ..translation.shipped import load_flow
from ..translation.translator import Translator
from .picture_view import PictureView, choice, labelled, slider


class TextBox:
    """Pictures for typed sentences, one row a sentence; a column of the ``samples`` shares its residual.
    ``translators``: name → translator whose source takes sentences, or pairs (sentence, style) if it has styles."""

    def __init__(self, translators: Mapping[str, Translator], samples: int = 6):
        self.translators, self.samples = dict(translators), samples
        known = [name for one in self.translators.values() for name in getattr(one.source, "names", [])]
        self.styles = list(dict.fromkeys(known))

    def pictures(self, sentences: list[str], target: str, seed: int, length: float = 1.0, style: str = "") -> Tensor:
        """``(sentences, samples, 3, S, S)`` in [−1, 1], on the CPU; ``style`` counts where the target has styles. The
        same ``seed`` gives the same residuals on every device."""
        translator, draws = self.translators[target], torch.Generator().manual_seed(seed)
        v = length * torch.randn(self.samples, translator.flow.config.dim, generator=draws)
        v = v.to(next(translator.flow.parameters()).device)
        names = getattr(translator.source, "names", [])
        asked = [(text, style or names[0]) for text in sentences] if names else list(sentences)
        return translator.render(v, asked).cpu()

    def render(self, sentence: str, other: str, target: str, seed: int, length: float = 1.0, style: str = "") -> bytes:
        """PNG, enlarged without smoothing: a row for each of the two sentences that is not empty."""
        sentences = [text.strip() for text in (sentence, other) if text.strip()]
        if not sentences:
            raise CourseError("type a sentence, for example: a sad person with red hair.")
        pictures = self.pictures(sentences, target, seed, length, style)
        return png_bytes(pictures.flatten(0, 1), self.samples, wide=128)

    def view(self) -> PictureView:
        """The widget; its pictures wait until a sentence is complete (Enter, or leaving the box)."""
        first, second = (f"a {mood} person with long pink hair" for mood in ("smiling", "sad"))
        controls = {
            "sentence": Text(first, continuous_update=False),
            "other": Text(second, description="second sentence", continuous_update=False),
            "target": choice(list(self.translators), description="translate into"),
            "seed": BoundedIntText(0, min=0, max=9999, description="sample again (seed of v)"),
            "length": slider("length of v", 1.0, 0.0, 1.5, 0.1),
        }
        if self.styles:
            controls["style"] = choice(self.styles)
        alt = "One row of pictures for each sentence; pictures in one column share their residual."
        return PictureView(self.render, controls, alt)


class SourceView:
    """One picture, several sources: what the chosen source leaves open differs from sample to sample. ``views``: name →
    (translator, conditions of the ``pictures (N, 3, S, S)``), all into one target. The ``samples``' residuals, drawn
    from ``seed``, are those of every source and input."""

    def __init__(self, views: dict[str, tuple[Translator, Tensor]], pictures: Tensor, samples: int = 4, seed: int = 0):
        self.views, self.pictures, self.samples = views, pictures.cpu(), samples
        dim = next(iter(views.values()))[0].flow.config.dim
        self.v = torch.randn(samples, dim, generator=torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def strip(self, source: str, index: int, temperature: float = 1.0) -> Tensor:
        """``(1 + samples, 3, S, S)``: the picture and its translations from one source; the widget's static twin."""
        translator, conditions = self.views[source]
        condition = conditions[[index]].expand(self.samples, *conditions.shape[1:])
        latent = translator.flow.inverse(self.v.to(condition) * temperature, condition)
        return torch.cat([self.pictures[[index]], translator.target.decode(latent).cpu()])

    def render(self, source: str, index: int, temperature: float = 1.0) -> bytes:
        labels = ["picture", *(f"v {k + 1}" for k in range(self.samples))]
        return labelled(self.strip(source, index, temperature), labels, enlarge=2)

    def view(self) -> PictureView:
        last = len(self.pictures) - 1
        controls = {
            "source": SelectionSlider(options=list(self.views), continuous_update=False),
            "index": BoundedIntText(0, min=0, max=last, description=f"picture (0 to {last})"),
            "temperature": slider("temperature of v", 1.0, 0.0, 1.5, 0.1),
        }
        alt = f"Left: the picture. Right: {self.samples} translations from the chosen source."
        return PictureView(self.render, controls, alt)


class CrossView:
    """The residual of one picture under another's condition, of ``pictures (N, 3, S, S)``, latents and conditions."""

    @torch.no_grad()
    def __init__(self, translator: Translator, pictures: Tensor, latent: Tensor, condition: Tensor):
        self.translator, self.pictures, self.condition = translator, pictures.cpu(), condition
        self.v = translator.flow.encode(latent, condition)

    @torch.no_grad()
    def strip(self, residual_of: int, condition_of: int) -> Tensor:
        """``(3, 3, S, S)``: the picture that gives v, the one that gives the condition, and the crossed one."""
        latent = self.translator.flow.inverse(self.v[[residual_of]], self.condition[[condition_of]])
        crossed = self.translator.target.decode(latent).cpu()
        return torch.cat([self.pictures[[residual_of, condition_of]], crossed])

    def render(self, residual_of: int, condition_of: int) -> bytes:
        labels = ("v of this one", "condition of this one", "both together")
        return labelled(self.strip(residual_of, condition_of), labels, enlarge=3)

    def view(self) -> PictureView:
        last = len(self.pictures) - 1
        controls = {
            "residual_of": slider("residual v from", 0, 0, last),
            "condition_of": slider("condition from", min(1, last), 0, last),
        }
        alt = "Left: the picture of the residual. Middle: the picture of the condition. Right: the crossed picture."
        return PictureView(self.render, controls, alt)


_READ = "as it is"


def read_upload(content: bytes, size: int) -> Tensor:
    """Any picture file as ``(3, size, size)`` in [−1, 1]: whole, upright, letterboxed on white; else a CourseError."""
    try:
        with Image.open(io.BytesIO(bytes(content))) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA")
    except Exception as error:  # decoders raise a dozen unrelated types on damaged bytes
        known = "upload a PNG, JPEG, WebP or GIF file, or move the examples"
        raise CourseError(f"this file is no picture that can be read: {known}.") from error
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    padded = ImageOps.pad(picture, (size, size), Image.Resampling.LANCZOS, color="white")
    return to_float(torch.from_numpy(np.array(padded)).permute(2, 0, 1).contiguous())


@dataclass(frozen=True)
class Edition:
    """A set of domains with its translator, and held-out examples ``(N, 3, S, S)`` with domains ``(N,)``."""

    translator: DomainTranslator
    examples: Tensor
    domains: Tensor


class DomainDemo:
    """Everything that the demo shows, as functions of its controls; animations are saved in ``folder``. ``picked``
    stands for an ``upload`` with its ``domain``, and for attributes to change, such as ``hair="green"``."""

    def __init__(self, editions: Mapping[str, Edition], folder: Path | str):
        self.editions, self.folder = dict(editions), Path(folder)

    def _asked(
        self, edition: str, example: int, upload: Any = (), domain: str = "", **changed: str
    ) -> tuple[DomainTranslator, Tensor, int, dict[str, int]]:
        """What the controls choose: translator, picture ``(3, S, S)`` beside it, its domain, attribute → class number,
        without attributes that this edition lacks, or that are to stay."""
        one = self.editions[edition]
        translator, names = one.translator, one.translator.names
        if upload:
            picture, own = read_upload(upload[-1]["content"], one.examples.shape[-1]), names.index(domain or names[0])
        else:
            example = min(example, len(one.examples) - 1)
            picture, own = one.examples[example], int(one.domains[example])
        numbers = {}
        for name, value in changed.items():
            if (values := translator.classes.get(name)) and value != _READ:
                if value not in values:
                    raise CourseError(f"{name} is never {value!r}: choose one of {', '.join(values)}.")
                numbers[name] = values.index(value)
        return translator, picture.to(next(translator.flow.parameters()).device), own, numbers

    def translations(self, edition: str, example: int, **picked: Any) -> Tensor:
        """``(1 + K, 3, S, S)``: the input, then the picture under every label."""
        translator, picture, own, changed = self._asked(edition, example, **picked)
        columns = translator.under_every_label(picture[None], torch.tensor([own]), changed)[0]
        return torch.cat([picture[None], columns]).cpu()

    def samples(self, edition: str, example: int, count: int, seed: int, spread: float = 0.3, **picked: Any) -> Tensor:
        """``(count, K, 3, S, S)``: samples around the picture, a column a label; see :meth:`DomainTranslator.vary`."""
        translator, picture, own, changed = self._asked(edition, example, **picked)
        return translator.vary(picture, own, count, spread, torch.Generator().manual_seed(seed), changed).cpu()

    def animate(self, edition: str, example: int, other: str, frames: int = 125, **picked: Any) -> Path:
        """Saves the way from the picture's latent to its translation as a film, WebP with 25 frames a second."""
        translator, picture, own, changed = self._asked(edition, example, **picked)
        if other not in translator.names or frames < 2:
            known = ", ".join(translator.names)
            raise CourseError(f"the animation goes to a label in two frames or more: choose one of {known}.")
        way = translator.path(picture, own, translator.names.index(other), frames, changed).cpu()
        stem = f"{edition}-{translator.names[own]}-to-{other}".replace(" ", "-").replace(",", "")
        path = self.folder / f"{stem}.webp"
        first, *others = [Image.open(io.BytesIO(png_bytes(one[None], enlarge=3))).convert("RGB") for one in way]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            first.save(path, save_all=True, append_images=others, duration=40, loop=0, quality=80)
        except OSError as error:
            raise CourseError(f"{path} cannot be written ({error.strerror}): choose another folder.") from error
        return path

    def render(
        self, edition: str, example: int, count: int = 2, spread: float = 0.3, seed: int = 0, **picked: Any
    ) -> bytes:
        """PNG in few colours, since notebooks store it: input and translations in the first row, samples below."""
        first = self.translations(edition, example, **picked)
        below = self.samples(edition, example, count, seed, spread, **picked)
        below = torch.cat([torch.ones_like(below[:, :1]), below], 1).flatten(0, 1)
        return png_bytes(torch.cat([first, below]), len(first), colours=128)

    def view(self) -> "_DemoView":
        return _DemoView(self)


def _one_of(description: str) -> widgets.SelectionSlider:
    """A control whose names change with the edition; :func:`choice` says why it is no drop-down."""
    return widgets.SelectionSlider(options=[_READ], description=description, continuous_update=False)


class _DemoView(widgets.VBox):
    """Controls beside the pictures where the page is wide enough, else above them; below, the film."""

    def __init__(self, demo: DomainDemo):
        self.demo = demo
        self.edition = choice(list(demo.editions), description="edition")
        self.example, self.upload = slider("example", 0, 0, 1), widgets.FileUpload(accept="image/*", multiple=False)
        self.upload.description = "upload a picture"
        self.domain, self.target = _one_of("label of an upload"), _one_of("animate to label")
        attributes = [name for one in demo.editions.values() for name in list(one.translator.classes)[1:]]
        self.changed = {name: _one_of(name) for name in dict.fromkeys(attributes)}
        # Registered before the view's own observers, which so never see labels of another edition or an old upload.
        self.edition.observe(self._follow, names="value")
        self.example.observe(lambda change: self.upload.set_trait("value", ()), names="value")
        self._follow()
        controls = {"edition": self.edition, "example": self.example, "upload": self.upload, "domain": self.domain}
        controls |= self.changed | {
            "count": slider("samples", 2, 1, 4),
            "spread": slider("spread", 0.3, 0.0, 1.0, 0.1),
            "seed": widgets.BoundedIntText(0, min=0, max=9999, description="seed"),
        }
        alt = "First row: the input and the picture under every label. Below: samples, a row shares its v."
        self.main = PictureView(demo.render, controls, alt)
        self.header, self.link, self.note = widgets.HTML(), widgets.HTML(), widgets.Label("")
        self.film = widgets.Image(format="webp", layout=widgets.Layout(display="none"))
        self.edition.observe(self._name_columns, names="value")
        self._name_columns()
        actions = {"sample again": self._again, "animate translation": self._animate, "save picture": self._save}
        self.buttons = {text: widgets.Button(description=text) for text in actions}
        for text, action in actions.items():
            self.buttons[text].on_click(action)
        pictures = widgets.VBox([self.header, self.main.picture, self.main.label, self.main.message])
        rows = [widgets.VBox(list(controls.values())), pictures], [*self.buttons.values(), self.target]
        boxes = [widgets.HBox(row, layout=widgets.Layout(flex_flow="row wrap")) for row in rows]
        super().__init__([*boxes, self.film, self.note, self.link])

    def _follow(self, change: Any = None) -> None:
        """Labels, examples and attributes of the chosen edition."""
        one = self.demo.editions[self.edition.value]
        self.example.max = len(one.examples) - 1
        self.domain.options = self.target.options = names = one.translator.names
        self.domain.value, self.target.value = names[0], names[-1]
        for name, control in self.changed.items():
            control.options = [_READ, *one.translator.classes.get(name, [])]
            control.value = _READ

    def _name_columns(self, change: Any = None) -> None:
        titles = ["input", *self.demo.editions[self.edition.value].translator.names]
        width = int(self.main.picture.layout.width.removesuffix("px")) / len(titles)
        cells = "".join(f'<span style="width:{width:.1f}px;text-align:center">{title}</span>' for title in titles)
        self.header.value = f'<div style="display:flex">{cells}</div>'

    def _again(self, button: Any) -> None:
        seed = self.main.controls["seed"]
        seed.value = (seed.value + 1) % 10000

    def _animate(self, button: Any) -> None:
        picked = {name: value for name, value in self.main.values().items() if name not in ("count", "spread", "seed")}
        try:
            path = self.demo.animate(other=self.target.value, **picked)
        except CourseError as error:
            self.note.value = str(error)
            return
        self.film.value, self.film.layout.display = path.read_bytes(), None
        self._offer(path)

    def _save(self, button: Any) -> None:
        path = self.demo.folder / f"{self.edition.value}.png".replace(" ", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.main.picture.value)
        self._offer(path)

    def _offer(self, path: Path) -> None:
        """A link that downloads a saved file, for readers whose kernel runs on another machine."""
        address = f"data:application/octet-stream;base64,{base64.b64encode(path.read_bytes()).decode()}"
        self.note.value = f"saved as {path.name} in {path.parent.name}"
        self.link.value = f'<a download="{path.name}" href="{address}">download</a>'


def people_edition(device: str | torch.device = "cpu", examples: int = 12) -> Edition:
    """The six styles of people with the shipped flow, and some test people, each in one of the styles."""
    people = load_people()
    test, classes = people.part("test"), people.classes
    target, classifier = (load_expert(name, device) for name in ("avatar-autoencoder", "avatar-classifier"))
    flow = load_flow("people-labels", device)
    translator = DomainTranslator(classes, flow, target, people_expert(classes), classifier)
    styles = len(classes["style"])
    count, domains = len(test) // styles, torch.arange(examples) % styles
    return Edition(translator, test.batch(domains * count + torch.linspace(0, count - 1, examples).long()), domains)


def people_demo(device: str | torch.device = "cpu") -> DomainDemo:
    """What ``make demo`` serves."""
    return DomainDemo({"six styles": people_edition(device)}, RUNS / "films")
