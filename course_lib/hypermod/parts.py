"""What trains and what is frozen: a table read off the networks, not off a description of them."""

from dataclasses import dataclass

from torch import nn

from .generator import HyperGenerator

__all__ = ["Part", "trained_parts"]

_PARTS = {
    "source.mapping": "mapping network",
    "constant": "constant",
    "noise": "noise strengths",
    "adain": "styles (AdaIN)",
    "to_rgb": "to-RGB",
    "style_head": "class styles",
    "heads": "heads",
    "classes": "class network",
    "from_rgb": "from-RGB",
    "head": "scores",
    "inputs": "class tables",
    "offsets": "class tables",
    "mapping": "mapping network",
    "conv": "convolutions",
    "blocks": "convolutions",
    "last": "convolutions",
}
"""Piece of a parameter's name → part. The first that fits decides."""


@dataclass(frozen=True)
class Part:
    """One part of a network.

    Attributes:
        name: what it is called.
        parameters: numbers in it.
        trained: how many of them change in training.
    """

    name: str
    parameters: int
    trained: int


def trained_parts(network: nn.Module) -> list[Part]:
    """The parts of a hyper-modulated generator, a conditional StyleGAN or a critic, in the order of the network.

    The convolutions of a hyper-modulated generator are counted once, in the source that it keeps.
    """
    found: dict[str, list[int]] = {}
    for name, parameter in network.named_parameters():
        if isinstance(network, HyperGenerator) and "conv" in name:
            part = "convolutions (modulated)"
        else:
            part = next(part for piece, part in _PARTS.items() if piece in name)
            part += ", own copy" if name.startswith("own.") else ""
        counts = found.setdefault(part, [0, 0])
        counts[0] += parameter.numel()
        counts[1] += parameter.numel() if parameter.requires_grad else 0
    return [Part(name, *counts) for name, counts in found.items()]
