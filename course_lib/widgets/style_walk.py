"""A walk through the styles of a StyleGAN: interpolation in z or w, truncation, and style mixing at a chosen block."""

from collections.abc import Sequence

import ipywidgets as widgets
import torch
from torch import Tensor

from ..errors import CourseError
from ..experts.latent_space import LatentSpace
from ..figures import png_bytes
from ..gans.stylegan import StyleGAN
from ..generation.grids import slerp
from .picture_view import PictureView, choice

__all__ = ["StyleWalk"]


class StyleWalk:
    """Pictures between two samples, and pictures that take coarse styles from one and fine styles from the other.

    Args:
        source: a generator of one style a picture.
        space: decodes what it draws, where that is latents.
        samples: how many samples can be chosen.
        seed: of their z, and of the noise maps.

    Raises:
        CourseError: fewer than two samples.
    """

    def __init__(self, source: StyleGAN, samples: int = 12, seed: int = 0, space: LatentSpace | None = None):
        if samples < 2:
            raise CourseError(f"a walk needs two samples or more, not {samples}.")
        self.source, self.seed, self.space = source, seed, space
        draws = torch.Generator().manual_seed(seed)
        # Computed once: a step is then one pass of the synthesis network.
        self.mean = source.mean_style()
        self.z = torch.randn(samples, source.config.latent, generator=draws).to(self.mean)
        self.sizes = [block.size for block in source.synthesis.blocks]

    @torch.no_grad()
    def style(self, first: int, second: int, way: float, space: str, truncation: float, cut: int) -> Tensor:
        """Styles ``(1, blocks, latent)``.

        Args:
            first, second: numbers of the two samples.
            way: 0 is the first, 1 the second.
            space: ``z`` goes along an arc before the mapping network, ``w`` along a straight line behind it.
            truncation: 1 keeps styles, 0 gives the mean style.
            cut: blocks from this number on take the style of the second sample; the number of blocks means none.

        Raises:
            CourseError: there is no such space.
        """
        if space not in ("z", "w"):
            raise CourseError(f"walk in the space z or w, not {space!r}.")
        ends = self.z[[first, second]]
        if space == "z":
            styles = self.source.mapping(torch.cat([slerp(ends[:1], ends[1:], way), ends[1:]]))
        else:
            styles = self.source.mapping(ends)
            styles = torch.cat([torch.lerp(styles[:1], styles[1:], way), styles[1:]])
        walked, other = torch.lerp(self.mean, styles, truncation)[:, None]
        return torch.stack([walked if index < cut else other for index in range(len(self.sizes))], 1)

    @torch.no_grad()
    def pictures(self, styles: Tensor, noise: int = 0) -> Tensor:
        """``(N, 3, S, S)`` on the CPU for styles ``(N, blocks, latent)``; all share noise map number ``noise``."""
        draws = torch.Generator().manual_seed(self.seed + 1 + noise)
        maps = [m.expand(len(styles), -1, -1, -1) for m in self.source.synthesis.noise(1, draws)]
        drawn = self.source.synthesis(styles, maps)
        return (drawn if self.space is None else self.space.decode(drawn)).float().cpu()

    def strip(
        self,
        first: int,
        second: int,
        ways: Sequence[float],
        space: str = "w",
        truncation: float = 0.7,
        cut: int | None = None,
    ) -> Tensor:
        """``(len(ways), 3, S, S)``: the static twin of the widget."""
        cut = len(self.sizes) if cut is None else cut
        styles = [self.style(first, second, way, space, truncation, cut) for way in ways]
        return self.pictures(torch.cat(styles))

    def render(
        self, first: int, second: int, space: str, way: float, cut: str, truncation: float, noise: int = 0
    ) -> bytes:
        """PNG: the first sample, the picture that the controls ask for, the second. Same values, same bytes."""
        index = self._cuts().index(cut)
        none = len(self.sizes)
        ends = [self.style(k, k, 0.0, "w", truncation, none) for k in (first, second)]
        middle = self.style(first, second, way, space, truncation, none - index)
        pictures = self.pictures(torch.cat([ends[0], middle, ends[1]]), noise)
        return png_bytes(pictures, enlarge=max(1, 160 // pictures.shape[-1]))

    def _cuts(self) -> list[str]:
        return ["nowhere", *(f"block {number} on" for number in range(len(self.sizes), 1, -1))]

    def view(self) -> PictureView:
        """Controls above the picture."""
        last = len(self.z) - 1
        sample = {"min": 0, "max": last, "continuous_update": False}
        part = {"min": 0.0, "max": 1.0, "step": 0.05, "continuous_update": False}
        controls = {
            "first": widgets.IntSlider(0, description="left sample", **sample),
            "second": widgets.IntSlider(1, description="right sample", **sample),
            "space": choice(["w", "z"], description="walk in"),
            "way": widgets.FloatSlider(0.5, description="way from left to right", **part),
            "cut": choice(self._cuts(), description="right style rules from"),
            "truncation": widgets.FloatSlider(0.7, description="truncation", **(part | {"max": 1.5})),
            "noise": widgets.IntSlider(0, min=0, max=9, description="noise maps", continuous_update=False),
        }
        alt = "Left and right: two samples. Middle: the picture between them, or made of the styles of both."
        return PictureView(self.render, controls, alt)
