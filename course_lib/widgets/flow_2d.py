"""Pictures of densities on the plane: what notebook 02 shows in its widget and its animation. Pure functions."""

import io

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from ..figures import png_bytes

__all__ = ["animation", "density_pictures", "plane"]

_PALETTE_SIZE = 128


def plane(side: int = 96, extent: float = 1.2) -> Tensor:
    """Centres of ``side × side`` cells that tile the square [−extent, extent]².

    Returns:
        ``(side * side, 2)``, row by row from the top left, so that ``values.view(side, side)`` is an upright picture.
    """
    ticks = ((torch.arange(side) + 0.5) / side * 2 - 1) * extent
    y, x = torch.meshgrid(-ticks, ticks, indexing="ij")
    return torch.stack([x, y], -1).view(-1, 2)


def density_pictures(density: Tensor, peak: float) -> Tensor:
    """Densities as colours, dark for 0 and yellow for ``peak`` or more.

    Args:
        density: ``(..., S, S)``, 0 or larger; not-a-number is drawn as 0.
        peak: the value that gets the brightest colour; one value for several pictures makes them comparable.

    Returns:
        ``(..., 3, S, S)`` in [−1, 1], float32.
    """
    level = (density.detach().nan_to_num(0.0) / peak).clamp(0, 1).cpu().numpy()
    colours = colormaps["viridis"](level)[..., :3]
    return torch.from_numpy(np.moveaxis(colours, -1, -3)).float() * 2 - 1


def animation(frames: Tensor, milliseconds: int = 400, hold: int = 1600, enlarge: int = 1) -> bytes:
    """An animated PNG, which browsers play and other programs show as its first frame.

    Args:
        frames: ``(T, N, 3, S, S)`` in [−1, 1]; the ``N`` pictures of a frame stand side by side.
        milliseconds: duration of a frame.
        hold: duration of the last frame.
        enlarge: whole-number factor, without smoothing.
    """
    sheets = [Image.open(io.BytesIO(png_bytes(pictures, enlarge=enlarge))) for pictures in frames]
    # One palette for all frames: a third of the size, and smooth densities have few colours anyway.
    palette = Image.fromarray(np.concatenate([np.asarray(sheet) for sheet in sheets])).quantize(_PALETTE_SIZE)
    sheets = [sheet.quantize(palette=palette, dither=Image.Dither.NONE) for sheet in sheets]
    durations = [milliseconds] * (len(sheets) - 1) + [hold]
    buffer = io.BytesIO()
    sheets[0].save(buffer, "PNG", save_all=True, append_images=sheets[1:], duration=durations, loop=0)
    return buffer.getvalue()
