"""Taking a source generator apart: what its kernels hold in the terms of AdaFM, and what changing these terms does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import CourseError
from ..gans.equalized import FusedUpsample
from ..gans.stylegan import StyleGAN, StyleGANConfig, Upsample
from .adafm import ModulatedConv
from .generator import HyperGenerator, Modulation

__all__ = ["LayerModulation", "as_fused", "count_parameters", "modulate", "source_modulation"]


@dataclass(frozen=True)
class LayerModulation:
    """γ, β and δ of one modulated convolution.

    Attributes:
        name: number of its block, and whether it is the first of two.
        gain, shift: γ and β, ``(O, I)`` or for a fused layer ``(I, O)``.
        bias: δ ``(O,)``.
        taps: the standardised kernels W that they act on, ``(*pairs, 3, 3)``.
    """

    name: str
    gain: Tensor
    shift: Tensor
    bias: Tensor
    taps: Tensor


def _names(source: StyleGAN) -> list[str]:
    names: list[str] = []
    for number, block in enumerate(source.synthesis.blocks, 1):
        names += [f"block {number} in"] if hasattr(block, "conv1") else []
        names.append(f"block {number}")
    return names


def source_modulation(hyper: HyperGenerator) -> list[LayerModulation]:
    """γ, β, δ that turn each modulated convolution into the source's own, in the order of the layers.

    A fused layer of a generator built with ``published=True`` only comes close; see :class:`ModulatedConv`.
    """
    found = []
    for name, conv in zip(_names(hyper.source), hyper.convs, strict=True):
        gain, shift, bias = (part[0].clone() for part in conv.source())
        found.append(LayerModulation(name, gain, shift, bias, conv.weight.clone()))
    return found


def modulate(hyper: HyperGenerator, layers: Sequence[LayerModulation]) -> Modulation:
    """Finished kernels of given γ, β and δ, past all heads: what ``hyper`` draws one class with.

    Args:
        hyper: gives scales, taps and standardised biases.
        layers: one a modulated convolution; their ``taps`` are not read.

    Raises:
        CourseError: another number of layers, or values of another shape.
    """
    fits = len(layers) == len(hyper.convs) and all(
        layer.gain.shape == layer.shift.shape == conv.pairs and layer.bias.shape == (conv.outputs,)
        for layer, conv in zip(layers, hyper.convs, strict=False)
    )
    if not fits:
        raise CourseError("give γ, β and δ for every modulated convolution, in the shapes of source_modulation.")
    pairs = list(zip(hyper.convs, layers, strict=True))
    kernels = [conv.kernels(layer.gain[None], layer.shift[None]) for conv, layer in pairs]
    return Modulation(kernels, [conv.bias + layer.bias[None] for conv, layer in pairs])


@torch.no_grad()
def as_fused(source: StyleGAN, fused_from: int = 8) -> StyleGAN:
    """The same function written with fused layers, as the published generator has them from 128 pixels on.

    Repeating pixels and convolving with w is a transposed convolution with the *sum* of four shifts of the mirrored w.
    A fused layer takes their mean, so its stored weight is w mirrored, transposed and times four.

    Args:
        source: a generator whose layers are plain.
        fused_from: size in pixels from which layers are to be fused.
    """
    fused = StyleGAN(replace(source.config, fused_from=fused_from))
    pair, state = (source, fused), {}
    for name, value in source.state_dict().items():
        owner = name.removesuffix(".conv.weight").removesuffix(".conv.bias")
        before, after = (network.get_submodule(owner) if owner.endswith("conv1") else None for network in pair)
        if isinstance(before, Upsample) and isinstance(after, FusedUpsample):
            name = name.replace("conv1.conv.", "conv1.")
            value = 4 * value.flip(2, 3).transpose(0, 1) if value.ndim == 4 else value
        state[name] = value
    fused.load_state_dict(state)
    return fused.to(source.synthesis.to_rgb[0].weight.device).train(source.training).requires_grad_(False)


def count_parameters(config: StyleGANConfig, classes: int = 1, width: int = 64, rank: int | None = None) -> dict:
    """Numbers of parameters by part; nothing is allocated.

    Args:
        config: of the source generator.
        classes, width, rank: see :class:`HyperGenerator`.

    Returns:
        ``source``: the base generator; ``kept``: of them what is neither kernel nor bias of a modulated convolution;
        ``classes``: the class network; ``heads``: what turns class vectors into γ, β and δ; ``per class``: how many
        values of γ, β and δ one class has.
    """
    with torch.device("meta"):
        source = StyleGAN(config)
        hyper = HyperGenerator(source, classes, width, rank)

    def total(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    convs: list[ModulatedConv] = list(hyper.convs)
    modulated = sum(conv.weight.numel() + conv.bias.numel() for conv in convs)
    values = sum(2 * conv.pairs[0] * conv.pairs[1] + conv.outputs for conv in convs)
    parts = {"source": total(source), "kept": total(source) - modulated}
    return parts | {"classes": total(hyper.classes), "heads": total(hyper.heads), "per class": values}
