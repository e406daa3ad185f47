"""A walk between two samples of a transferred GAN: in z, the noise, or in w, the codes that its decoder reads."""

from collections.abc import Sequence

import ipywidgets as widgets
import torch
from torch import Tensor

from ..errors import CourseError
from ..figures import png_bytes
from ..mind2mind import TransferredGAN
from .picture_view import PictureView, choice

__all__ = ["CodeWalk"]


class CodeWalk:
    """Pictures between two samples.

    Noise is uniform in a cube, which is convex: a straight line stays inside. Gaussian noise would need an arc.

    Args:
        gans: name → transferred GAN with a mean code; several targets can be compared.
        samples: how many samples can be chosen.
        seed: of their noise.

    Raises:
        CourseError: fewer than two samples, or no GAN.
    """

    def __init__(self, gans: dict[str, TransferredGAN], samples: int = 12, seed: int = 0):
        if samples < 2 or not gans:
            raise CourseError("a walk needs a transferred GAN and two samples or more.")
        self.gans = gans
        self.noise = {name: gan.noise(samples, seed) for name, gan in gans.items()}

    @torch.no_grad()
    def strip(
        self, target: str, first: int, second: int, ways: Sequence[float], space: str = "w", truncation: float = 1.0
    ) -> Tensor:
        """``(len(ways), 3, S, S)`` on the CPU: the static twin.

        Args:
            target: name of the GAN.
            first, second: numbers of the samples.
            ways: 0 is the first, 1 the second.
            space: ``z`` mixes noise before the trained generator, ``w`` codes behind it.
            truncation: 1 keeps codes, 0 gives the mean code.

        Raises:
            CourseError: there is no such space.
        """
        if space not in ("z", "w"):
            raise CourseError(f"walk in the space z or w, not {space!r}.")
        gan, ends = self.gans[target], self.noise[target][[first, second]]
        share = torch.tensor(list(ways))[:, None]
        if space == "z":
            codes = gan.codes(torch.lerp(ends[:1], ends[1:], share), truncation)
        else:
            left, right = gan.codes(ends, truncation)
            codes = torch.lerp(left[None], right[None], share.to(left))
        return gan.expert.decode(codes).float().cpu()

    def render(self, target: str, first: int, second: int, space: str, way: float, truncation: float) -> bytes:
        """PNG: the first sample, the picture on the way, the second. Same values, same bytes."""
        pictures = self.strip(target, first, second, (0.0, way, 1.0), space, truncation)
        return png_bytes(pictures, enlarge=max(1, 160 // pictures.shape[-1]))

    def view(self) -> PictureView:
        """Controls above the picture."""
        last = len(next(iter(self.noise.values()))) - 1
        sample = {"min": 0, "max": last, "continuous_update": False}
        part = {"min": 0.0, "max": 1.0, "step": 0.05, "continuous_update": False}
        controls = {
            "target": choice(list(self.gans), description="target"),
            "first": widgets.IntSlider(0, description="left sample", **sample),
            "second": widgets.IntSlider(1, description="right sample", **sample),
            "space": choice(["w", "z"], description="walk in"),
            "way": widgets.FloatSlider(0.5, description="way from left to right", **part),
            "truncation": widgets.FloatSlider(1.0, description="truncation", **(part | {"max": 1.5})),
        }
        return PictureView(self.render, controls, "Left and right: two samples. Middle: the picture between them.")
