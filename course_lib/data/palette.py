"""Segmentation classes out of flat colours: which of twelve measured palette colours a pixel has, or background.

The icon packs draw with few colours for few kinds of parts: yellow for faces, skin tones, dark brown for hair and
outlines, blue for water and cloth. The vector sources are not in the repository, so the classes come from the rendered
pictures: nearest colour, then a clean-up that removes the rims between two areas.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from .image_set import ImageSet, to_float

__all__ = ["CLASSES", "PALETTE", "background", "class_map", "fit_palette", "paint"]

PALETTE: dict[str, tuple[int, int, int]] = {
    "black": (25, 21, 23),
    "dark brown": (90, 71, 66),
    "brown": (156, 126, 85),
    "skin": (225, 176, 146),
    "light": (230, 222, 218),
    "grey": (163, 185, 203),
    "yellow": (249, 194, 57),
    "red": (237, 81, 68),
    "dark red": (184, 43, 51),
    "violet": (131, 113, 171),
    "blue": (54, 155, 227),
    "green": (35, 152, 135),
}
"""Name → red, green, blue in [0, 255]: rounded centres of one k-means run on the training pictures.

Other seeds of :func:`fit_palette` move the rarer ones; none reproduces the pictures clearly better.
"""

CLASSES = ("background", *PALETTE)
"""Names of the segmentation classes; a class map holds positions in this list."""

_WHITE = 0.9
"""Smallest channel of a pixel that counts as white, in [−1, 1]."""


def fit_palette(data: ImageSet, colours: int = 12, seed: int = 0, pictures: int = 3000, pixels: int = 60000) -> Tensor:
    """k-means over pixels that are not white, started by k-means++ (Arthur and Vassilvitskii 2007).

    Args:
        data: training pictures.
        colours: how many centres.
        seed: of the choice of pictures, pixels and first centres.
        pictures, pixels: how many are drawn.

    Returns:
        ``(colours, 3)`` in [0, 255], the most frequent first.
    """
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(len(data), (pictures,), generator=generator)
    points = to_float(data.images[index]).permute(0, 2, 3, 1).reshape(-1, 3)
    points = points[points.amin(1) < _WHITE]
    points = points[torch.randint(len(points), (pixels,), generator=generator)]
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < colours:
        far = torch.cdist(points, centres).amin(1).square()
        centres = torch.cat([centres, points[torch.multinomial(far, 1, generator=generator)]])
    for _ in range(60):
        nearest = torch.cdist(points, centres).argmin(1)
        centres = torch.stack([points[nearest == k].mean(0) for k in range(colours)])
    order = torch.bincount(nearest, minlength=colours).argsort(descending=True)
    return (centres[order] + 1) * 127.5


def is_white(images: Tensor) -> Tensor:
    """``bool (B, S, S)``: pixels as white as paper, background or not."""
    return images.amin(1) > _WHITE


def background(images: Tensor) -> Tensor:
    """``bool (B, S, S)``: white pixels that a path of white pixels joins to the border; white eyes are not background.

    Args:
        images: ``(B, 3, S, S)`` in [−1, 1].
    """
    white = is_white(images)
    # Framed in white, so that all of the outside is one region; the structure joins no pixels of two pictures.
    framed = F.pad(white, (1, 1, 1, 1), value=True).cpu().numpy()
    cross = ndimage.generate_binary_structure(2, 1)[None] & np.array([False, True, False])[:, None, None]
    regions, _ = ndimage.label(framed, cross)
    outside = regions == regions[:, :1, :1]
    return torch.from_numpy(outside[:, 1:-1, 1:-1]).to(images.device)


def class_map(images: Tensor) -> Tensor:
    """Class of every pixel: background, else the nearest palette colour, by majority of each 3×3 neighbourhood.

    Args:
        images: ``(B, 3, S, S)`` in [−1, 1].

    Returns:
        ``int64 (B, S, S)``, positions in :data:`CLASSES`.
    """
    colours = _colours().to(images)
    distance = torch.cdist(images.permute(0, 2, 3, 1).flatten(0, 2), colours)
    labels = distance.argmin(1).view(len(images), *images.shape[2:]) + 1
    labels = labels.masked_fill(background(images), 0)
    votes = F.one_hot(labels, len(CLASSES)).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(F.pad(votes, (1, 1, 1, 1), mode="replicate"), 3, 1).argmax(1)


def paint(labels: Tensor) -> Tensor:
    """Class maps ``int64 (B, S, S)`` as pictures ``(B, 3, S, S)`` in [−1, 1], every class in its palette colour."""
    colours = torch.cat([torch.ones(1, 3), _colours()]).to(labels.device)
    return colours[labels].permute(0, 3, 1, 2).contiguous()


def _colours() -> Tensor:
    return torch.tensor(list(PALETTE.values()), dtype=torch.float32) / 127.5 - 1.0
