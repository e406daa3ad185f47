"""What the tensors of a released Net2Net flow are called, and where they go in ours."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from course_lib.cinn import ConditionalFlow, FlowConfig

__all__ = ["FlowEntry", "flow_layout"]

_ACTNORM = ("loc", "scale", "initialized")
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class FlowEntry:
    """One tensor of a released flow.

    Attributes:
        ours: its name in ``ConditionalFlow.state_dict()``.
        shape: its shape in the released file. ActNorm parameters are ``(1, C, 1, 1)`` there and ``(C,)`` here.
        dtype: its dtype in the released file.
    """

    ours: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def flow_layout(config: FlowConfig) -> dict[str, FlowEntry]:
    """All tensors of a flow with this configuration, by released name.

    Args:
        config: any configuration; those of the released models are in ``RELEASED_FLOWS``.

    Returns:
        Entries in the order of the released files. Nothing large is allocated.

    References:
        CompVis/net2net, state dictionaries of its flow classes (block: ``norm_layer``, ``coupling``, ``shuffle``).
    """
    with torch.device("meta"):
        ours = ConditionalFlow(config).state_dict()
    layout = {}
    for released, name in _names(config):
        shape = tuple(ours[name].shape)
        if _is_actnorm(released) and shape:
            shape = (1, *shape, 1, 1)
        elif config.embedder_kind == "tapered" and released.startswith("embedder.net.") and len(shape) == 2:
            shape = (*shape, 1, 1)
        layout[released] = FlowEntry(name, shape, ours[name].dtype)
    return layout


def _is_actnorm(released: str) -> bool:
    return released.endswith((".loc", ".scale"))


def _names(config: FlowConfig) -> Iterator[tuple[str, str]]:
    """Pairs of released name and our name."""
    embedder = {"dense": _dense_names, "tapered": _tapered_names, "conv": _conv_names}[config.embedder_kind]
    yield from embedder(config)
    for i in range(config.blocks):
        released, ours = f"sub_layers.{i}", f"blocks.{i}"
        yield from _with(f"{released}.norm_layer", f"{ours}.norm", _ACTNORM)
        for letter, nets in (("s", "scale_nets"), ("t", "shift_nets")):
            for step in (0, 1):
                net = f"{ours}.coupling.{nets}.{step}"
                yield from _fully_connected(
                    f"{released}.coupling.{letter}.{step}.main", net, config.hidden_depth, False
                )
        yield f"{released}.shuffle.forward_shuffle_idx", f"{ours}.shuffle.order"
        yield f"{released}.shuffle.backward_shuffle_idx", f"{ours}.shuffle.inverse_order"


def _fully_connected(released: str, ours: str, depth: int, batch_norm: bool) -> Iterator[tuple[str, str]]:
    """Layers, norms and activations share one running index there; only layers and norms hold tensors."""
    step = 3 if batch_norm else 2
    for i in range(depth + 1):
        yield from _with(f"{released}.{i * step}", f"{ours}.hidden.{i}", ("weight", "bias"))
        if batch_norm:
            yield from _with(f"{released}.{i * step + 1}", f"{ours}.norms.{i}", _BATCH_NORM)
    yield from _with(f"{released}.{(depth + 1) * step}", f"{ours}.out", ("weight", "bias"))


def _dense_names(config: FlowConfig) -> Iterator[tuple[str, str]]:
    yield from _fully_connected("embedder.main", "embedder.net", config.embedder_depth, config.embedder_batch_norm)


def _tapered_names(config: FlowConfig) -> Iterator[tuple[str, str]]:
    last = config.embedder_depth
    for i in range(last + 1):
        yield from _with(f"embedder.net.{3 * i}", f"embedder.linears.{i}", ("weight", "bias"))
        if i < last:
            yield from _with(f"embedder.net.{3 * i + 1}", f"embedder.norms.{i}", _ACTNORM)


def _conv_names(config: FlowConfig) -> Iterator[tuple[str, str]]:
    for i in range(config.downsamplings):
        released = f"embedder.feature_layers.{i}.sub_layers"
        yield f"{released}.0.weight", f"embedder.convs.{i}.weight"
        yield from _with(f"{released}.1", f"embedder.norms.{i}", _ACTNORM)
    yield from _with("embedder.dense_encode.sub_layers.0", "embedder.out", ("weight", "bias"))


def _with(released: str, ours: str, tensors: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for tensor in tensors:
        yield f"{released}.{tensor}", f"{ours}.{tensor}"
