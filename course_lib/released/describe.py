"""What a file with released weights is, and whether it fits: checked on names and shapes alone, nothing is built."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.cinn import FlowConfig
from course_lib.errors import CourseError
from course_lib.released.basic_ae import BasicAutoencoder, infer_basic_config
from course_lib.released.big_ae import RELEASED_AUTOENCODERS, BigAutoencoder, infer_big_config
from course_lib.released.biggan import RELEASED_BIGGANS, Generator, infer_generator_config
from course_lib.released.captioner import Captioner, infer_captioner_config
from course_lib.released.checkpoint import read_checkpoint, read_content
from course_lib.released.dequantiser import Dequantiser, infer_dequantiser_config
from course_lib.released.describe_gans import describe_gans, known_parts
from course_lib.released.flow import RELEASED_FLOWS, infer_flow_config
from course_lib.released.flow_names import flow_layout
from course_lib.released.parts import find_parts
from course_lib.released.strict import (
    Layout,
    check_state,
    drop_sentence_model,
    drop_training_loss,
    layout_of,
    take,
)
from course_lib.released.translator import RELEASED_TRANSLATORS, infer_translator_config, translator_layout

__all__ = ["describe"]

_HASHES = {
    "a2148cf64807444113fac5eede060d28": "biggan-128.pth",
    "e23db3caa34ac4c4ae922a75258dcb8d": "biggan-256.pth",
    "5c2a6fe765142cbdd9f10f15d65a68b6": "dequantvae-20000.ckpt",
    "db185e0f6791e60d27c00de0f40c376c": "captioning_model_pt16.ckpt",
}
"""MD5 of the files whose hash CompVis/net2net publishes."""

# Kind → (a name that only its files have, how to read its sizes, the network).
_KINDS: dict[str, tuple[str, Callable, type[nn.Module]]] = {
    "256-pixel autoencoder": ("decoder.map_to_class_embedding.", infer_big_config, BigAutoencoder),
    "32-pixel autoencoder": ("autoencoder.", infer_basic_config, BasicAutoencoder),
    "captioner": ("encoder.resnet.", infer_captioner_config, Captioner),
    "dequantiser": ("mu_layer.", infer_dequantiser_config, Dequantiser),
    "BigGAN generator": ("GBlock.", infer_generator_config, Generator),
}


def describe(path: str | Path) -> str:
    """A report on a file: what it holds, which released model has its sizes, what reading leaves out.

    Args:
        path: ``.safetensors``, a torch file or a Lightning checkpoint.

    Returns:
        A few lines of text.

    Raises:
        CourseError: the file cannot be read, is none of the kinds known here, or does not fit its kind exactly.
    """
    path = Path(path)
    if parts := known_parts(find_parts(read_content(path))):
        return "\n".join([f"{'file:':15} {path.name}", *describe_gans(parts)])
    checkpoint = read_checkpoint(path)
    state, notes = drop_training_loss(checkpoint.state)
    if any(name.startswith("flow.") for name in state):
        config = infer_translator_config(state)
        state, dropped = drop_sentence_model(state)
        notes += dropped
        kind, layout = f"translator from {config.kind}", translator_layout(config)
        fitting = [name for name, known in RELEASED_TRANSLATORS.items() if known.flow == config.flow]
        load = f'course_lib.translation.load_released("{path.name}")'
    elif any(name.startswith("sub_layers.") for name in state):
        kind, (layout, fitting) = "flow", _flow_layout(infer_flow_config(state))
        load = f'course_lib.released.load_flow("{path.name}")'
    else:
        kind, state, layout, fitting = _network(state)
        load = "see course_lib.released"
    check_state(state, layout, f"a {kind}")
    lines = {
        "file": path.name,
        "kind": kind,
        "tensors": f"{len(layout)}, {_count(layout):,} numbers, all names and shapes as they should be",
        "sizes of": ", ".join(fitting) or "no released model",
        "hash": _HASHES.get(_md5(path), "none of those published"),
        "steps": checkpoint.step if checkpoint.step is not None else "not in the file",
        "open with": load,
    }
    return "\n".join([*(f"{name + ':':10} {value}" for name, value in lines.items()), *(f"note: {n}" for n in notes)])


def _flow_layout(config: FlowConfig) -> tuple[Layout, list[str]]:
    layout = {name: (entry.shape, entry.dtype) for name, entry in flow_layout(config).items()}
    return layout, [name for name, known in RELEASED_FLOWS.items() if known == config]


def _network(state: Mapping[str, Tensor]) -> tuple[str, Mapping[str, Tensor], Layout, list[str]]:
    """Kind, tensors by the network's own names, layout, and the released models of these sizes."""
    if all(name.startswith("decoder.") for name in state):
        state = take(state, "decoder.")
    for kind, (mark, infer, network) in _KINDS.items():
        if any(name.startswith(mark) for name in state):
            config = infer(state)
            with torch.device("meta"):
                layout = layout_of(network(config))
            known = {**RELEASED_AUTOENCODERS, **RELEASED_BIGGANS}
            return kind, state, layout, [name for name, other in known.items() if other == config]
    raise CourseError(
        f"These are no weights that the course knows ({', '.join(list(state)[:3])}, …): give a translator, flow, "
        f"{', '.join(_KINDS)}, or a file of Hyper-Modulation, ALAE or MindGAN."
    )


def _count(layout: Layout) -> int:
    return sum(torch.Size(shape).numel() for shape, _ in layout.values())


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
