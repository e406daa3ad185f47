"""Classes mixed by hand, of a hyper-modulated generator or by the mixing weights of borrowed batch norms; walks through
residuals, styles, codes or latents. Each ``strip`` is the static twin of its widget."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import torch
from ipywidgets import BoundedIntText, Checkbox, FloatSlider, Widget
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError
from ..experts.networks import LatentSpace
from ..figures import png_bytes
from ..gans.biggan import ClassNorm, Generator
from ..gans.stylegan import StyleGAN
from ..generation.generator import ConditionalGenerator, slerp
from ..mind2mind import TransferredGAN
from ..translation.translator import Translator
from .picture_view import PictureView, choice, labelled, slider

MOST = 6  # classes whose sliders fit above one picture


class ClassMix:
    """Pictures of mixtures of classes: the mixture of their class vectors, drawn at one z and one noise. ``classes``
    are two to six names, by default the first ones; ``seed`` draws the noise, and ``samples`` z to walk between."""

    def __init__(
        self, generator: ConditionalGenerator, classes: Sequence[str] | None = None, samples: int = 8, seed: int = 0
    ):
        self.names = list(generator.classes[:MOST] if classes is None else classes)
        if not 2 <= len(self.names) <= MOST or samples < 2:
            found = f"{len(self.names)} and {samples}"
            raise CourseError(f"mixing takes two to {MOST} classes and at least two samples, not {found}.")
        self.generator, self.vectors = generator, generator.vectors_of(self.names)
        self.latents, self.noise = generator.latents(samples, seed), generator.noise(1, seed)

    def vector(self, weights: Mapping[str, float]) -> Tensor:
        """``(K,)``: the mixture; weights are divided by their sum, and nothing at all means equal parts."""
        if unknown := sorted(set(weights) - set(self.names)):
            raise CourseError(f"{unknown[0]!r} is not among the classes to mix: {', '.join(self.names)}.")
        parts = torch.tensor([float(weights.get(name, 0.0)) for name in self.names])
        parts = parts if parts.any() else torch.ones(len(parts))
        if parts.sum().abs() < 1e-6:
            raise CourseError("weights that cancel out are no mixture: let their sum differ from 0.")
        return (parts / parts.sum()) @ self.vectors

    def picture(
        self, weights: Mapping[str, float], start: int = 0, end: int = 1, way: float = 0.0, truncation: float = 1.0
    ) -> Tensor:
        """``(3, S, S)`` of the mixture class → share, at a position ``way`` on the arc between two samples."""
        z = slerp(self.latents[start], self.latents[end], way)
        return self.generator.draw(z[None], self.vector(weights)[None], self.noise, truncation)[0]

    def strip(self, mixtures: Sequence[Mapping[str, float]], start: int = 0, end: int = 1) -> Tensor:
        """``(3, len(mixtures), 3, S, S)``: each mixture at the start, half-way and at the end: the static twin."""
        drawn = [self.picture(mix, start, end, way) for way in (0.0, 0.5, 1.0) for mix in mixtures]
        return torch.stack(drawn).unflatten(0, (3, -1))

    def render(self, start: int, end: int, way: float, truncation: float, **weights: float) -> bytes:
        return png_bytes(self.picture(weights, start, end, way, truncation)[None], wide=256)

    def view(self) -> PictureView:
        """The widget; it begins half and half, so that each slider has a say."""
        last = len(self.latents) - 1
        controls = {name: slider(name, 0.5 * (name in self.names[:2]), 0.0, 1.0, 0.05) for name in self.names} | {
            "start": BoundedIntText(0, min=0, max=last, description=f"from sample (0 to {last})"),
            "end": BoundedIntText(1, min=0, max=last, description="to sample"),
            "way": slider("way", 0.0, 0.0, 1.0, 0.05),
            "truncation": slider("truncation", 1.0, 0.0, 1.0, 0.1),
        }
        alt = "The picture that the generator draws for the mixture of classes that the sliders set."
        return PictureView(self.render, controls, alt)


class MixingDemo:
    """Pictures of a class whose γ − 1 and β are weighted sums of those of old classes, with the same weights, of any
    sign and sum, in all layers: a point among the class embeddings of ``generator``. Of all ``classes`` some are
    ``offered``; ``z (N, noise)`` is drawn, and ``space`` decodes what is latents."""

    def __init__(
        self, generator: Generator, classes: list[str], offered: list[str], z: Tensor, space: LatentSpace | None = None
    ):
        if generator.config.embedding is None:
            raise CourseError("this generator keeps a table in every layer: mixing by one weight needs embeddings.")
        unknown = [f"no old class {name!r}" for name in offered if name not in classes]
        if unknown or not offered:
            missing = (unknown or ["nobody to borrow from"])[0]
            raise CourseError(f"there is {missing}: choose among {', '.join(classes[:8])}, …")
        self.generator, self.classes, self.offered, self.z, self.space = generator, classes, offered, z, space

    def embedding(self, weights: Mapping[str, float]) -> Tensor:
        """``(E,)``: the weighted sum of embeddings; all zeros where nothing is borrowed."""
        row = self.z.new_zeros(len(self.classes))
        row[[self.classes.index(name) for name in weights]] = row.new_tensor(list(weights.values()))
        return row @ self.generator.shared.weight

    @torch.no_grad()
    def pictures(self, weights: Mapping[str, float], whole: bool = False) -> Tensor:
        """``(N, 3, S, S)`` in [−1, 1] on the CPU, for old class → how much of it. ``whole`` mixes γ instead of γ − 1, a
        mistake worth seeing: every channel is multiplied by the sum of weights."""
        extra = sum(weights.values()) - 1
        norms = [module for module in self.generator.modules() if whole and isinstance(module, ClassNorm)]
        with ExitStack() as hooks:
            for norm in norms:
                hooks.enter_context(norm.gain.register_forward_hook(lambda layer, inputs, gain: gain + extra))
            drawn = self.generator(self.z, self.embedding(weights).expand(len(self.z), -1))
        return (self.space.decode(drawn) if self.space else drawn).cpu()

    def render(self, whole: bool = False, **weights: float) -> bytes:
        return png_bytes(self.pictures(weights, whole), enlarge=2)

    def view(self) -> PictureView:
        controls = {name: slider(name, float(name == self.offered[0]), -1.0, 1.5, 0.05) for name in self.offered}
        controls["whole"] = Checkbox(False, description="mix γ instead of γ − 1", indent=False)
        alt = f"{len(self.z)} pictures of a class with these mixing weights, each with its own noise."
        return PictureView(self.render, controls, alt)


def _check_walk(samples: int, space: str = "w") -> None:
    if samples < 2:
        raise CourseError(f"a walk needs two samples or more, not {samples}.")
    if space not in ("z", "w"):
        raise CourseError(f"walk in the space z or w, not {space!r}.")


def _walk_controls(samples: int, truncation: float) -> dict[str, Widget]:
    return {
        "first": slider("left sample", 0, 0, samples - 1),
        "second": slider("right sample", 1, 0, samples - 1),
        "space": choice(["w", "z"], description="walk in"),
        "way": slider("way from left to right", 0.5, 0.0, 1.0, 0.05),
        "truncation": slider("truncation", truncation, 0.0, 1.5, 0.05),
    }


class ResidualWalk:
    """Pictures along a path of residuals, on arcs between ``stops`` drawn from ``seed``, under ``inputs``, name →
    picture ``(3, S, S)``. The source has ``shrink`` and ``size``, as ``translation.LowResolution``."""

    def __init__(self, translator: Translator, inputs: dict[str, Tensor], stops: int = 9, seed: int = 0):
        if not inputs or stops < 2:
            raise CourseError(f"a walk needs inputs and two residuals or more, not {len(inputs)} and {stops}.")
        self.translator, self.names = translator, list(inputs)
        pictures = torch.stack(list(inputs.values()))
        # Computed once: a step is then one pass of the flow and the decoder.
        self.small, self.conditions = translator.source.shrink(pictures), translator.source.encode(pictures)
        generator = torch.Generator().manual_seed(seed)
        self.stops = torch.randn(stops, translator.flow.config.dim, generator=generator).to(self.conditions)

    def residual(self, position: float, temperature: float = 1.0) -> Tensor:
        """``v (D,)`` at a place of the path, 0 to ``stops − 1``, times ``temperature``."""
        first = min(int(position), len(self.stops) - 2)
        return slerp(self.stops[first], self.stops[first + 1], position - first) * temperature

    @torch.no_grad()
    def strip(self, name: str, positions: list[float], temperature: float = 1.0) -> Tensor:
        """``(len(positions), 3, S, S)``: the input called ``name`` at several places of the path."""
        row = self.names.index(name)
        v = torch.stack([self.residual(position, temperature) for position in positions])
        latent = self.translator.flow.inverse(v, self.conditions[[row]].expand(len(v), -1, -1, -1))
        return self.translator.target.decode(latent).cpu()

    def render(self, name: str, position: float, temperature: float = 1.0) -> bytes:
        """PNG: the input, the picture at that place, and the picture shrunk again."""
        picture = self.strip(name, [position], temperature)
        small = [self.small[self.names.index(name)][None].cpu(), self.translator.source.shrink(picture)]
        left, right = (F.interpolate(one, picture.shape[-2:], mode="nearest") for one in small)
        labels = ("input", "answer for this v", "answer, shrunk")
        return labelled(torch.cat([left, picture, right]), labels, enlarge=4)

    def view(self, alt: str = "") -> PictureView:
        """The widget, fast enough to follow the mouse; ``alt`` where the source is no low resolution."""
        last, size = float(len(self.stops) - 1), self.translator.source.size
        controls = {
            "name": choice(self.names, description="face"),
            "position": FloatSlider(0.0, min=0.0, max=last, step=0.1, description="walk through v"),
            "temperature": FloatSlider(1.0, min=0.0, max=1.5, step=0.1, description="temperature"),
        }
        low = f"Left: the {size}-pixel input. Middle: the answer for this v. Right: the answer shrunk to {size} pixels."
        return PictureView(self.render, controls, alt or low)


class StyleWalk:
    """Pictures between two samples, and pictures that take coarse styles from one and fine styles from the other.
    ``seed`` draws z of the ``samples`` and the noise maps; ``space`` decodes latents."""

    def __init__(self, source: StyleGAN, samples: int = 12, seed: int = 0, space: LatentSpace | None = None):
        _check_walk(samples)
        self.source, self.seed, self.space = source, seed, space
        # Computed once: a step is then one pass of the synthesis network.
        self.mean, self.blocks = source.mean_style(), len(source.synthesis.blocks)
        draws = torch.Generator().manual_seed(seed)
        self.z = torch.randn(samples, source.config.latent, generator=draws).to(self.mean)

    @torch.no_grad()
    def style(self, first: int, second: int, way: float, space: str, truncation: float, cut: int) -> Tensor:
        """Styles ``(1, blocks, latent)`` between the samples of numbers ``first`` (way 0) and ``second`` (way 1): in
        the ``space`` z along an arc, in w along a straight line. ``truncation`` 1 keeps styles, 0 gives the mean style.
        Blocks from ``cut`` on take the second sample's."""
        _check_walk(len(self.z), space)
        ends = self.z[[first, second]]
        if space == "z":
            walked, other = self.source.mapping(torch.cat([slerp(ends[:1], ends[1:], way), ends[1:]]))
        else:
            start, other = self.source.mapping(ends)
            walked = torch.lerp(start, other, way)
        walked, other = (torch.lerp(self.mean, style, truncation).view(1, -1) for style in (walked, other))
        return torch.stack([walked if index < cut else other for index in range(self.blocks)], 1)

    @torch.no_grad()
    def pictures(self, styles: Tensor, noise: int = 0) -> Tensor:
        """``(N, 3, S, S)`` on the CPU for styles ``(N, blocks, latent)``; all share noise map number ``noise``."""
        draws = torch.Generator().manual_seed(self.seed + 1 + noise)
        maps = [m.expand(len(styles), -1, -1, -1) for m in self.source.synthesis.noise(1, draws)]
        drawn = self.source.synthesis(styles, maps)
        return (self.space.decode(drawn) if self.space else drawn).float().cpu()

    def strip(
        self, first: int, second: int, ways: Sequence[float], space: str = "w", truncation: float = 0.7, cut: int = 99
    ) -> Tensor:
        """``(len(ways), 3, S, S)``; arguments as for :meth:`style`."""
        return self.pictures(torch.cat([self.style(first, second, way, space, truncation, cut) for way in ways]))

    def render(
        self, first: int, second: int, space: str, way: float, cut: str, truncation: float, noise: int = 0
    ) -> bytes:
        """PNG: the first sample, the picture that the controls ask for, the second."""
        left, right = (self.style(k, k, 0.0, "w", truncation, self.blocks) for k in (first, second))
        middle = self.style(first, second, way, space, truncation, self.blocks - self._cuts().index(cut))
        return png_bytes(self.pictures(torch.cat([left, middle, right]), noise), wide=160)

    def _cuts(self) -> list[str]:
        return ["nowhere", *(f"block {number} on" for number in range(self.blocks, 1, -1))]

    def view(self) -> PictureView:
        controls = _walk_controls(len(self.z), 0.7) | {
            "cut": choice(self._cuts(), description="right style rules from"),
            "noise": slider("noise maps", 0, 0, 9),
        }
        alt = "Left and right: two samples. Middle: the picture between them, or made of the styles of both."
        return PictureView(self.render, controls, alt)


class CodeWalk:
    """Pictures between two of the ``samples``, drawn from ``seed``, of a transferred GAN with a mean code, in z, noise
    that is uniform in a cube, or in w, the codes that its decoder reads."""

    def __init__(self, gans: dict[str, TransferredGAN], samples: int = 12, seed: int = 0):
        _check_walk(samples)
        self.gans, self.samples = gans, samples
        self.noise = {name: gan.noise(samples, seed) for name, gan in gans.items()}

    @torch.no_grad()
    def strip(
        self, target: str, first: int, second: int, ways: Sequence[float], space: str = "w", truncation: float = 1.0
    ) -> Tensor:
        """``(len(ways), 3, S, S)`` on the CPU; arguments as for :meth:`StyleWalk.style`."""
        _check_walk(self.samples, space)
        gan, ends, share = self.gans[target], self.noise[target][[first, second]], torch.tensor(list(ways))[:, None]
        if space == "z":
            codes = gan.codes(torch.lerp(ends[:1], ends[1:], share), truncation)
        else:
            ends = gan.codes(ends, truncation)
            codes = torch.lerp(ends[:1], ends[1:], share.to(ends))
        return gan.expert.decode(codes).float().cpu()

    def render(self, target: str, first: int, second: int, space: str, way: float, truncation: float) -> bytes:
        """PNG: the first sample, the picture on the way, the second."""
        return png_bytes(self.strip(target, first, second, (0.0, way, 1.0), space, truncation), wide=160)

    def view(self) -> PictureView:
        controls = {"target": choice(list(self.gans), description="target")} | _walk_controls(self.samples, 1.0)
        return PictureView(self.render, controls, "Left and right: two samples. Middle: the picture between them.")


def latent_mix_view(
    decode: Callable[[Tensor], Tensor], latents: dict[str, Tensor], directions: dict[str, Tensor], alt: str
) -> PictureView:
    """Two of the named ``latents (D,)``, how far to go from one to the other on a straight line, and one of the named
    ``directions (D,)`` to add to the mixture; ``decode`` makes pictures ``(B, 3, S, S)`` of latents ``(B, D)``."""
    if len(latents) < 2 or not directions:
        raise CourseError("the mixer needs two pictures or more and at least one direction.")

    def render(first: str, second: str, amount: float, attribute: str, strength: float) -> bytes:
        start, end = latents[first], latents[second]
        middle = torch.lerp(start, end, amount) + strength * directions[attribute]
        return png_bytes(decode(torch.stack([start, middle, end])).float().cpu(), enlarge=3)

    names = list(latents)
    controls = {
        "first": choice(names, description="left"),
        "second": choice(names, names[1], "right"),
        "amount": slider("left to right", 0.5, -0.5, 1.5, 0.05),
        "attribute": choice(list(directions), description="direction"),
        "strength": slider("how much of it", 0.0, -2.0, 2.0, 0.1),
    }
    return PictureView(render, controls, alt)
