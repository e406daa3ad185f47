"""What the tensors of a cGANTransfer generator and critic are called, and where they go in ours."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from course_lib.gans import BigGANConfig, Discriminator, Generator
from course_lib.released.renamed import Renamed, RenamedLayout

__all__ = ["critic_layout", "transfer_layout"]

_PARTS = {"comb_layer": "scores", "prev_knowledge": "table", "z_layer": "noise", "res": "residual"}
_SIDES = {"g": "gain", "b": "bias"}


def transfer_layout(config: BigGANConfig, new: int) -> RenamedLayout:
    """Tensors of a generator with new classes, in the order of the authors' files.

    Old tables and embeddings go to our ``source``, all else to ``target``. ``pretrain_embedding_w`` of every layer is
    one tensor with ``shared.weight``.

    Args:
        config: of the generator that was transferred; with an embedding it is the ImageNet variant, else the CIFAR one.
        new: number of new classes.
    """
    with torch.device("meta"):
        base = {name: tuple(tensor.shape) for name, tensor in Generator(config).state_dict().items()}
    layout: dict[str, Renamed] = {}
    for name, shape in base.items():
        norm, _, rest = name.rpartition(".bn")
        norm = f"{norm}.bn{rest[0]}" if norm else ""
        if norm and rest[2:] == "stored_mean" and config.embedding is not None:
            layout[f"{norm}.pretrain_embedding_w"] = Renamed("source.shared.weight", base["shared.weight"])
        old = name == "shared.weight" or (norm and rest[2:].startswith(("gain", "bias")))
        layout[name] = Renamed(f"{'source' if old else 'target'}.{name}", shape)
        if norm and rest[2:] == ("bias.weight" if config.embedding is None else "bias.sv0"):
            layout |= dict(_propagation(norm, base[f"{norm}.stored_mean"][0], config, new))
    return layout


def _propagation(norm: str, channels: int, config: BigGANConfig, new: int) -> Iterator[tuple[str, Renamed]]:
    """The new tensors of one batch norm: weight, bias and spectral vector of each part, for gain and bias in turn."""
    spectral = config.embedding is not None
    shapes = {
        "comb_layer": ((config.classes, new), True, spectral),
        "prev_knowledge": ((channels, config.classes), not spectral, spectral),
        "z_layer": ((channels, config.chunk), True, True) if spectral else None,
        "res": ((channels, new), False, False),
    }
    for part, entry in shapes.items():
        if entry is None:
            continue
        shape, bias, normalised = entry
        tensors = {"weight": shape}
        tensors |= {"bias": shape[:1]} if bias else {}
        tensors |= {"u0": (1, shape[0]), "sv0": (1,)} if normalised else {}
        for side, ours in _SIDES.items():
            for name, size in tensors.items():
                yield f"{norm}.{part}_{side}.{name}", Renamed(f"target.{norm}.{ours}.{_PARTS[part]}.{name}", size)


def critic_layout(config: BigGANConfig, new: int) -> RenamedLayout:
    """Tensors of a critic with new classes: ``new_embed`` in the place of ``embed``."""
    with torch.device("meta"):
        state = Discriminator(replace(config, classes=new)).state_dict()
    return {name.replace("embed.", "new_embed."): Renamed(name, tuple(tensor.shape)) for name, tensor in state.items()}
