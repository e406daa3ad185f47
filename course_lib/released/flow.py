"""Load and write Net2Net flows under their released names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.errors import CourseError
from course_lib.released.checkpoint import read_state_dict
from course_lib.released.flow_names import FlowEntry, flow_layout
from course_lib.released.strict import check_state, reading_sizes

__all__ = [
    "RELEASED_FLOWS",
    "export_flow",
    "infer_flow_config",
    "load_flow",
    "load_flow_state",
    "select_flow_state",
]


def _released(dim: int, condition_dim: int, embedding_dim: int, blocks: int) -> FlowConfig:
    return FlowConfig(dim, (condition_dim,), embedding_dim, blocks=blocks, embedder_batch_norm=True)


RELEASED_FLOWS: dict[str, FlowConfig] = {
    "anime": _released(128, 2, 10, 20),
    "portraits": _released(128, 2, 10, 20),
    "ccfq": _released(128, 3, 10, 20),
    "faces32to256": _released(128, 128, 128, 20),
    "sbert_ae": _released(256, 1024, 256, 24),
    "sbert_bigbigan": _released(120, 1024, 256, 24),
    "sbert_biggan": _released(268, 768, 268, 24),
}

# The other parts of a released training run; their weights are experts, not the flow.
_EXPERT_PREFIXES = ("first_stage_model.", "cond_stage_model.", "to_c_model.", "dequantizer.", "loss.")


def load_flow(
    path: str | Path,
    config: FlowConfig | str | None = None,
    activation: Literal["none", "leaky_relu"] | None = None,
    reproduce_lrelu_bug: bool = False,
) -> ConditionalFlow:
    """Read a released flow and return it in evaluation mode.

    Args:
        path: ``.safetensors``, a torch file, or a Lightning checkpoint of a whole training run.
        config: a configuration, a name in ``RELEASED_FLOWS``, or None to read the sizes off the tensors.
        activation: the activation of the blocks, which leaves no trace in the file; None keeps that of ``config``. All
            released configurations use "none" although the class's default is the leaky one.
        reproduce_lrelu_bug: report 0 for the leaky activation's log-determinant, as the released code does.

    Returns:
        The flow, float32, on the CPU.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    state = select_flow_state(read_state_dict(path))
    if isinstance(config, str):
        if config not in RELEASED_FLOWS:
            raise CourseError(f"There is no released flow {config!r}: choose one of {', '.join(RELEASED_FLOWS)}.")
        config = RELEASED_FLOWS[config]
    config = config or infer_flow_config(state)
    config = replace(
        config,
        activation=activation or config.activation,
        activation_log_det=config.activation_log_det and not reproduce_lrelu_bug,
    )
    return load_flow_state(state, config)


def select_flow_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the flow, without the prefix ``flow.`` and without the experts saved beside it."""
    if not any(name.startswith("flow.") for name in state):
        return dict(state)
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(_EXPERT_PREFIXES)}
    return {name.removeprefix("flow."): tensor for name, tensor in kept.items()}


def load_flow_state(state: Mapping[str, Tensor], config: FlowConfig) -> ConditionalFlow:
    """Build a flow from tensors under their released names.

    Args:
        state: tensors by released name, without prefix.
        config: the configuration they must match exactly.

    Returns:
        The flow in evaluation mode, with the permutations of the state.

    Raises:
        CourseError: names are missing or unknown, shapes differ (all of them are listed), or a permutation is none.
    """
    layout = flow_layout(config)
    check_state(state, {name: (entry.shape, entry.dtype) for name, entry in layout.items()}, "this configuration")
    _check_permutations(state, layout)
    with torch.device("meta"):
        flow = ConditionalFlow(config)
    flow.to_empty(device="cpu")
    ours = flow.state_dict()
    for name, entry in layout.items():
        ours[entry.ours].copy_(state[name].reshape(ours[entry.ours].shape))
    flow.load_state_dict(ours)
    return flow.eval()


def export_flow(flow: ConditionalFlow) -> dict[str, Tensor]:
    """The flow's tensors under their released names, shapes and dtypes; detached copies on the CPU."""
    ours = flow.state_dict()
    return {
        name: ours[entry.ours].detach().to("cpu", entry.dtype, copy=True).reshape(entry.shape)
        for name, entry in flow_layout(flow.config).items()
    }


def infer_flow_config(state: Mapping[str, Tensor]) -> FlowConfig:
    """Read the sizes of a flow with a dense embedder off the shapes of its tensors.

    Args:
        state: tensors by released name, without prefix.

    Returns:
        A configuration with activation "none".

    Raises:
        CourseError: a tensor that tells a size is missing.
    """
    with reading_sizes("a Net2Net flow"):
        batch_norm = "embedder.main.1.running_mean" in state
        stride = 3 if batch_norm else 2
        embedder_last = _last_index(state, "embedder.main.")
        coupling = "sub_layers.0.coupling.s.0.main."
        hidden_dim = state[f"{coupling}0.weight"].shape[0]
        embedder_hidden, condition_dim = state["embedder.main.0.weight"].shape
        return FlowConfig(
            dim=state["sub_layers.0.norm_layer.loc"].numel(),
            condition_shape=(condition_dim,),
            embedding_dim=state[f"embedder.main.{embedder_last}.weight"].shape[0],
            hidden_dim=hidden_dim,
            hidden_depth=_last_index(state, coupling) // 2 - 1,
            blocks=_last_index(state, "sub_layers.") + 1,
            embedder_hidden_dim=embedder_hidden,
            embedder_depth=embedder_last // stride - 1,
            embedder_batch_norm=batch_norm,
        )


def _last_index(state: Mapping[str, Tensor], prefix: str) -> int:
    return max(int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix))


def _check_permutations(state: Mapping[str, Tensor], layout: Mapping[str, FlowEntry]) -> None:
    for name in layout:
        if not name.endswith("forward_shuffle_idx"):
            continue
        order, back = state[name], state[name.replace("forward", "backward")]
        if not torch.equal(order.sort().values, torch.arange(len(order))) or not torch.equal(order.argsort(), back):
            raise CourseError(f"{name} and its inverse are no permutation: the checkpoint is damaged, fetch it again.")
