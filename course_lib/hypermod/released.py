"""Opens a hyper-modulated generator in the files of the authors' code, and writes ours as such."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CourseError
from ..experts import freeze
from ..gans.stylegan import StyleGAN
from ..released import load_stylegan, pick_part, read_parts
from ..released.hyper_names import HyperSizes, class_layout, hyper_layout, infer_hyper_sizes
from ..released.renamed import export_renamed, load_renamed
from .generator import HyperGenerator
from .hypernetwork import FullHead

__all__ = ["export_released", "load_released"]


def load_released(path: str | Path, base: str | Path | StyleGAN, averaged: bool = True) -> HyperGenerator:
    """A generator that the authors' code trained, frozen, with its published computation in fused layers.

    Args:
        path: a self-aligned file (``generator``, ``task``) or one of a transfer (``g_running``, ``t_running_g``, and
            without the average ``generator``, ``task_g``).
        base: what it was made of. The file keeps the source's kernels standardised, without their means and
            deviations, so the source domain can only be drawn with these.
        averaged: the exponential moving averages of a transfer.

    Raises:
        CourseError: a file cannot be read, names and shapes are not exactly right, or the kernels are not those of
            ``base``.
    """
    parts = read_parts(path)
    wanted = ("g_running", "generator") if averaged else ("generator",)
    table = ("t_running_g", "task_g", "task") if averaged else ("task_g", "task")
    generator, classes = pick_part(parts, wanted, path), pick_part(parts, table, path)
    sizes = infer_hyper_sizes(generator, classes)
    source = base if isinstance(base, StyleGAN) else load_stylegan(base)
    if source.config.channels != sizes.source.channels or source.config.latent != sizes.source.latent:
        raise CourseError(f"{Path(path).name} has channels {sizes.source.channels}: give the base it was made of.")
    network = HyperGenerator(source, sizes.classes, sizes.width, start="random", published=True)
    _check_kernels(network, generator, sizes)
    load_renamed(network, generator, hyper_layout(sizes), "this hyper-modulated generator")
    load_renamed(network.classes, classes, class_layout(sizes), "this class network")
    return freeze(network)


def export_released(network: HyperGenerator) -> dict[str, dict[str, Tensor]]:
    """Tensors under the released names, as a self-aligned file holds them: ``generator`` and ``task``.

    Raises:
        CourseError: low-rank heads, or fused layers that are not computed as published, which the files cannot say.
    """
    if not all(isinstance(head, FullHead) for head in network.heads):
        raise CourseError("released files hold full heads: make the generator with rank=None.")
    if any(conv.fused and not conv.published for conv in network.convs):
        raise CourseError("released files compute fused layers otherwise: make the generator with published=True.")
    rows, width = network.classes.table.shape
    sizes = HyperSizes(network.source.config, width, rows, sum(1 for _ in network.classes.layers) // 2)
    return {
        "generator": export_renamed(network, hyper_layout(sizes)),
        "task": export_renamed(network.classes, class_layout(sizes)),
    }


def _check_kernels(network: HyperGenerator, generator: Mapping[str, Tensor], sizes: HyperSizes) -> None:
    """The file's standardised kernels must be those that the base gives."""
    ours = network.state_dict()
    for name, entry in hyper_layout(sizes).items():
        if not name.endswith((".W", ".b")) or generator.get(name, torch.empty(0)).shape != entry.shape:
            continue
        if not torch.allclose(generator[name].float(), ours[entry.ours], atol=1e-3):
            raise CourseError(f"{name} was not made of this base: give the generator that the file was made of.")
