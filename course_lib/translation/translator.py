"""A translator: a conditional flow between a frozen source expert and a frozen target expert.

The source decides what a translation keeps (Net2Net, paper §4, figures 4 to 12); target expert and latents stay. A
source is any layer of any frozen expert, of the picture or of a changed copy of it; or few pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cinn.flow import ConditionalFlow, GridFlow
from ..data.changes import grey, grey_square, random_warp
from ..data.image_set import resize
from ..errors import CourseError
from ..experts.autoencoder import GridExpert
from ..experts.classifier import LayerExpert
from ..experts.protocol import SourceExpert, TargetExpert, load_expert


class Translator:
    """Net2Net: samples pictures of the target domain for inputs of the source domain (Rombach et al. 2020, §3). The
    residual ``v`` is what the latent has beyond the condition, standard normal and, once trained, independent of it."""

    def __init__(self, source: SourceExpert, flow: ConditionalFlow | GridFlow, target: TargetExpert):
        if flow.config.dim != target.latent_dim or flow.config.condition_shape != tuple(source.condition_shape):
            given = f"({target.latent_dim},) and {tuple(source.condition_shape)}"
            wanted = f"({flow.config.dim},) under conditions {flow.config.condition_shape}"
            raise CourseError(f"the flow maps latents {wanted}, but the experts give {given}: build it for these.")
        self.source, self.flow, self.target = source, flow.eval(), target

    @torch.no_grad()
    def translate(
        self, x: Any, samples: int = 1, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws pictures ``(B, samples, 3, S, S)`` in [−1, 1] for source inputs: pictures, captions, labels. Sample
        ``k`` of every input shares its residual ``v``; ``temperature`` is the standard deviation of ``v``."""
        device = generator.device if generator is not None else next(self.flow.parameters()).device
        v = torch.randn(samples, self.flow.config.dim, generator=generator, device=device)
        return self.render(temperature * v, x)

    @torch.no_grad()
    def render(self, v: Tensor, x: Any) -> Tensor:
        """Pictures ``(B, samples, 3, S, S)`` for every input under every given residual ``v: (samples, D)``."""
        condition = self.source.encode(x)
        many = v.to(condition.device).repeat(len(condition), 1)
        pictures = self.decode(self.flow.inverse(many, condition.repeat_interleave(len(v), 0)))
        return pictures.unflatten(0, (len(condition), len(v)))

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` of latents ``(B, D)``, some at a time."""
        return torch.cat([self.target.decode(part) for part in latent.split(256)])

    @torch.no_grad()
    def residual(self, y: Tensor, x: Any) -> Tensor:
        """``v (B, D)`` of target pictures ``y`` under their own inputs ``x``: what the condition does not say."""
        return self.flow.encode(self.target.encode(y), self.source.encode(x))

    @torch.no_grad()
    def transfer(self, y: Tensor, x_own: Any, x_other: Any) -> Tensor:
        """Exemplar-guided synthesis: residual of ``y``, condition of ``x_other``; ``(B, 3, S, S)``."""
        return self.target.decode(self.flow.inverse(self.residual(y, x_own), self.source.encode(x_other)))


@torch.no_grad()
def cross_grid(translator: Translator, latent: Tensor, condition: Tensor) -> Tensor:
    """Residual of picture i under the condition of picture j, for all: ``(N, N, 3, S, S)`` (paper §4.5 and §4.6)."""
    count, flow = len(latent), translator.flow
    v = flow.encode(latent, condition).repeat_interleave(count, 0)
    moved = flow.inverse(v, condition.repeat(count, *[1] * (condition.ndim - 1)))
    return translator.decode(moved).unflatten(0, (count, count))


# --- sources --------------------------------------------------------------------------------------------------------

WARP_STRENGTH = 2.0
"""Twice the released code's."""

_MOST_NEIGHBOURS = 800


class LowResolution:
    """Source expert: a picture of any size, shrunk to ``size`` pixels, and encoded by ``autoencoder`` as in the paper;
    without one the shrunk picture is the condition. The kernel ``area`` averages; ``nearest`` keeps one pixel of each
    square, as the released code does, whose own autoencoder has never seen that."""

    def __init__(self, size: int, autoencoder: SourceExpert | None = None, kernel: str = "area"):
        if kernel not in ("area", "nearest"):
            raise CourseError(f"there is no kernel {kernel!r}: choose area or nearest.")
        self.size, self.autoencoder, self.kernel = size, autoencoder, kernel
        self.condition_shape = (3, size, size) if autoencoder is None else autoencoder.condition_shape

    def shrink(self, x: Tensor) -> Tensor:
        if self.kernel == "nearest" and x.shape[-1] != self.size:
            return F.interpolate(x, (self.size, self.size), mode="nearest")
        return resize(x, self.size)

    def encode(self, x: Tensor) -> Tensor:
        small = self.shrink(x)
        return small.detach() if self.autoencoder is None else self.autoencoder.encode(small)


def enlarge(pictures: Tensor, size: int) -> Tensor:
    """Enlarges ``(B, 3, s, s)`` without any learning: bicubic, clamped to [−1, 1]."""
    return F.interpolate(pictures, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


class TransformedExpert:
    """A source expert that gets a copy of each picture ``(B, 3, S, S)`` in [−1, 1], changed by ``transform``."""

    def __init__(self, expert: SourceExpert, transform: Callable[[Tensor], Tensor]):
        self.expert, self.transform, self.condition_shape = expert, transform, expert.condition_shape

    def encode(self, x: Tensor) -> Tensor:
        return self.expert.encode(self.transform(x))


class ColourPresence:
    """Which colours there are, but not where and how much of them: ``(B, 64)`` in [0, 1]. Every place of the picture,
    averaged to 16×16, belongs to the nearest points of a 4×4×4 lattice of colours; each keeps its strongest share."""

    condition_shape = (64,)

    def encode(self, x: Tensor) -> Tensor:
        places = F.adaptive_avg_pool2d(x, 16).flatten(2)[..., None]
        shares = (1 - (places - torch.linspace(-1, 1, 4).to(x)).abs() * 1.5).clamp_min(0)
        return torch.einsum("bni,bnj,bnk->bnijk", *shares.unbind(1)).amax(1).flatten(1)


class PooledSource:
    """Source expert: another expert's output, averaged to few places and standardised by channel or coordinate, by the
    ``mean`` and ``deviation`` of training pictures. Maps keep as many places as the target's grid has cells, or twice
    as many along each side where the neighbourhood of a cell stays small."""

    def __init__(self, expert: SourceExpert, condition_shape: tuple[int, ...], mean: Tensor, deviation: Tensor):
        self.expert, self.condition_shape = expert, tuple(condition_shape)
        self.mean, self.deviation = mean, deviation

    @classmethod
    def fit(cls, expert: SourceExpert, output: Tensor, side: int) -> "PooledSource":
        """From the expert's output for training pictures; the target's latent has ``side`` cells along one side."""
        shape, axes = tuple(output.shape[1:]), (0, 2, 3) if output.ndim == 4 else 0
        if output.ndim == 4:
            fine = shape[0] * 4**2 <= _MOST_NEIGHBOURS and 2 * side <= shape[1]
            shape = (shape[0], *[2 * side if fine else side] * 2)
            output = F.adaptive_avg_pool2d(output, shape[1:])
        # What hardly varies is not blown up: its standard deviation counts as a twentieth of the mean one at least.
        std = output.std(axes, keepdim=True)
        return cls(expert, shape, output.mean(axes, keepdim=True), std.clamp_min(0.05 * std.mean() + 1e-6))

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep besides the expert and the shape."""
        return {"mean": self.mean, "deviation": self.deviation}

    def transformed(self, transform: Callable[[Tensor], Tensor]) -> "PooledSource":
        return PooledSource(TransformedExpert(self.expert, transform), self.condition_shape, **self.state())

    def pool(self, output: Tensor) -> Tensor:
        """The expert's output, ``(B, C, H, W)`` averaged to few places; pooling twice changes nothing more."""
        return F.adaptive_avg_pool2d(output, self.condition_shape[1:]) if output.ndim == 4 else output

    def pooled(self, x: Tensor) -> Tensor:
        """The expert's pooled output for images in [−1, 1], not standardised."""
        return self.pool(self.expert.encode(x))

    def standardise(self, output: Tensor) -> Tensor:
        return (self.pool(output) - self.mean) / self.deviation

    def encode(self, x: Tensor) -> Tensor:
        return self.standardise(self.expert.encode(x))


def _changed(transform: Callable[[Tensor], Tensor]) -> Callable[[Any], SourceExpert]:
    return lambda device: TransformedExpert(GridExpert(load_expert("avatar-autoencoder", device)), transform)


def _layer(network: str, layer: str) -> Callable[[Any], SourceExpert]:
    return lambda device: LayerExpert(load_expert(network, device), layer)


def _appearance(device: str | torch.device) -> SourceExpert:
    generator = torch.Generator().manual_seed(0)
    return TransformedExpert(ColourPresence(), lambda x: random_warp(x, generator, WARP_STRENGTH))


SOURCES: dict[str, Callable[[str | torch.device], SourceExpert]] = {
    "colourisation": _changed(grey),
    "inpainting": _changed(grey_square),
    "segmenter-early": _layer("avatar-segmenter", "early"),
    "segmenter-middle": _layer("avatar-segmenter", "middle"),
    "segmenter-logits": _layer("avatar-segmenter", "logits"),
    "segmenter-argmax": _layer("avatar-segmenter", "argmax"),
    "edges-shape": _layer("classifier-shape", "middle"),
    "edges-texture": _layer("classifier-texture", "middle"),
    "shape-appearance": _appearance,
}
"""Name of a shipped translator → its source expert on a device, before pooling."""
