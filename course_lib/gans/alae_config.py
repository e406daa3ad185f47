"""Sizes of ALAE's networks."""

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import CourseError

__all__ = ["PUBLISHED_ALAE", "ALAEConfig"]


@dataclass(frozen=True)
class ALAEConfig:
    """Sizes.

    Attributes:
        channels: of decoder and encoder at 4×4 pixels, 8×8, …; the last is the picture's size.
        latent: length of z and of the style w.
        mapping: layers between them.
        colours: channels of a picture, or of a cell of latents.
        fused_from: side in pixels from which resampling and convolution are one operation.
        explicit: form of the equalised learning rate, see :mod:`course_lib.gans.alae_layers`.
        bounded: whether ``decode`` clamps to [−1, 1]; latents have no bounds.
    """

    channels: tuple[int, ...] = (96, 96, 64, 32)
    latent: int = 64
    mapping: int = 8
    colours: int = 3
    fused_from: int = 128
    explicit: bool = False
    bounded: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if len(self.channels) < 2 or min(*self.channels, self.latent, self.mapping, self.colours) < 1:
            raise CourseError(f"ALAE needs channels for two sizes or more, and positive sizes, not {self}.")

    @classmethod
    def published(cls, layers: int, start: int, most: int, latent: int, mapping: int = 8, colours: int = 3) -> Any:
        """The paper's way to say it: ``start`` channels at full size, doubled with each halving up to ``most``."""
        return cls(tuple(min(most, start * 2**k) for k in reversed(range(layers))), latent, mapping, colours)

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return 4 * 2 ** (len(self.channels) - 1)

    @property
    def slots(self) -> int:
        """Styles that a decoder reads: two a block."""
        return 2 * len(self.channels)

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint card."""
        return asdict(self)


PUBLISHED_ALAE: dict[str, ALAEConfig] = {
    "ffhq": ALAEConfig.published(9, 16, 512, 512),
    "celeba": ALAEConfig.published(6, 64, 256, 256),
    "celebahq256": ALAEConfig.published(7, 64, 512, 512),
    "bedroom": ALAEConfig.published(7, 32, 512, 512),
    "mnist": ALAEConfig.published(4, 64, 256, 32, 4, 1),
}
"""The released configurations: FFHQ at 1024 pixels, CelebA at 128, CelebA-HQ and LSUN bedrooms at 256, MNIST at 32."""
