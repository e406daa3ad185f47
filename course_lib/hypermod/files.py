"""Hyper-modulated generators as files: the course's own, and those of the authors' code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CourseError
from ..experts import freeze, load_over_source
from ..gans.stylegan import StyleGAN
from ..paths import CHECKPOINTS
from ..released.strict import export_state, fill
from ..released.stylegan import HyperSizes, class_layout, cut_stylegan, hyper_layout, load_stylegan, read_hyper
from .generator import FullHead, HyperGenerator

__all__ = ["KIND", "export_released", "hyper_config", "hyper_tensors", "load_hypermod", "load_released"]

KIND = "hyper-modulated generator"
_TRAINED = ("heads.", "classes.", "own.", "style_head.")


def hyper_config(
    source: str, classes: list[str], width: int, rank: int | None, finetune: bool = False, class_styles: bool = False
) -> dict[str, Any]:
    """The ``config`` of the card: name of the source's checkpoint, names of the classes, options of the generator."""
    options = {"width": width, "rank": rank, "finetune": finetune, "class_styles": class_styles}
    return {"source": source, "classes": classes, **options}


def hyper_tensors(network: HyperGenerator) -> dict[str, Tensor]:
    """What the checkpoint holds: all that transfer trained."""
    return {name: value for name, value in network.state_dict().items() if name.startswith(_TRAINED)}


def load_hypermod(
    name: str = "avatar-hypermod", device: str | torch.device = "cpu", folder: Path = CHECKPOINTS
) -> HyperGenerator:
    """A shipped hyper-modulated generator, frozen, over its shipped source; ``class_names`` says what it draws.

    Args:
        name: of the checkpoint.
        device: where to put it.
        folder: where weights and card are; the source may also be a shipped one.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    network, card = load_over_source(name, KIND, _build, hyper_tensors, device, folder)
    network.class_names = list(card.config["classes"])
    return network


def _build(source: StyleGAN, config: dict[str, Any]) -> HyperGenerator:
    options = {key: value for key, value in config.items() if key not in ("source", "classes")}
    return HyperGenerator(source, len(config["classes"]), **options)


def load_released(
    path: str | Path, base: str | Path | StyleGAN, averaged: bool = True, size: int | None = None
) -> HyperGenerator:
    """A generator that the authors' code trained, frozen, with its published computation in fused layers.

    Args:
        path: a self-aligned file (``generator``, ``task``) or one of a transfer (``g_running``, ``t_running_g``, and
            without the average ``generator``, ``task_g``).
        base: what it was made of. The file keeps the source's kernels standardised, without their means and
            standard deviations, so the source domain can only be drawn with these.
        averaged: the exponential moving averages of a transfer.
        size: side in pixels of what it shall draw; by default the largest that was trained. Files hold nine blocks,
            whatever they were trained to.

    Raises:
        CourseError: a file cannot be read, names and shapes are not exactly right, or the kernels are not those of
            ``base``.
    """
    sizes, generator, classes = read_hyper(path, averaged, size)
    blocks, size = len(sizes.source.channels), sizes.source.size
    source = cut_stylegan(base, blocks) if isinstance(base, StyleGAN) else load_stylegan(base, size=size)
    if source.config.channels != sizes.source.channels or source.config.latent != sizes.source.latent:
        raise CourseError(f"{Path(path).name} has channels {sizes.source.channels}: give the base it was made of.")
    network = HyperGenerator(source, sizes.classes, sizes.width, start="random", published=True)
    _check_kernels(network, generator, sizes)
    fill(network, generator, hyper_layout(sizes), "this hyper-modulated generator")
    fill(network.classes, classes, class_layout(sizes), "this class network")
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
        "generator": export_state(network, hyper_layout(sizes)),
        "task": export_state(network.classes, class_layout(sizes)),
    }


def _check_kernels(network: HyperGenerator, generator: Mapping[str, Tensor], sizes: HyperSizes) -> None:
    """The file's standardised kernels must be those that the base gives."""
    ours = network.state_dict()
    for name, entry in hyper_layout(sizes).items():
        if not name.endswith((".W", ".b")) or generator.get(name, torch.empty(0)).shape != entry.shape:
            continue
        if not torch.allclose(generator[name].float(), ours[entry.ours], atol=1e-3):
            raise CourseError(f"{name} was not made of this base: give the generator that the file was made of.")
