"""Shared by the tests of released weights: manifests of the real files, and small networks with random weights."""

import gzip
import json
from functools import cache
from pathlib import Path

import torch

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.released.biggan import transferred_layout
from course_lib.released.net2net import flow_layout
from course_lib.released.net2net_experts import (
    BasicAutoencoder,
    BasicAutoencoderConfig,
    BigAutoencoder,
    BigAutoencoderConfig,
    BigGan,
    Captioner,
    CaptionerConfig,
    Dequantiser,
    DequantiserConfig,
    GeneratorConfig,
)
from course_lib.released.reading import export_state
from course_lib.released.stylegan import class_layout, hyper_layout

MANIFESTS = Path(__file__).parent / "manifests"

# The encoder's widths are torchvision's; one block a stage is the least it can have.
STAGES = (1, 1, 1, 1)
BIG = BigAutoencoderConfig(106, 128, 4, STAGES, classes=7, class_hidden=12, class_dim=5)
BASIC = BasicAutoencoderConfig(latent_dim=6, base=4)
GAN = GeneratorConfig(128, channels=4, classes=7, class_dim=5)
VAE = DequantiserConfig(dim=5, code_dim=3, hidden_dim=8)
CAPTIONS = CaptionerConfig(vocabulary=7, width=6, encoder_layers=STAGES)


def manifest(name, system="net2net"):
    """Name → (shape, dtype) of a really instantiated released module, in its order."""
    entries = read_manifest(f"{system}_{name}")
    return {key: (tuple(shape), dtype) for key, (shape, dtype) in entries.items()}


def read_manifest(name):
    """A manifest as it is."""
    return json.loads(gzip.decompress((MANIFESTS / f"{name}.json.gz").read_bytes()))


def as_text(layout):
    """A layout as manifests write it."""
    return {key: (entry.shape, str(entry.dtype).removeprefix("torch.")) for key, entry in layout.items()}


@cache
@torch.no_grad()
def small(network_class, config, seed=0):
    """A small network in which no tensor is at the value that would hide it. Copy it before you change it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        network = network_class(config)
    network.to_empty(device="cpu")
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            tensor.zero_()
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif name.endswith(("loc", "running_mean", "gamma", "scale")):
            tensor.copy_(0.3 * noise + (1.0 if name.endswith("scale") else 0.3))
        else:
            tensor.copy_(noise / max(1, tensor[0].numel()) ** 0.5)
    return network


def small_flow(dim, condition_dim, seed=0):
    """A flow that has seen a batch, and its tensors under released names."""
    config = FlowConfig(
        dim, (condition_dim,), 4, hidden_dim=8, blocks=2, embedder_hidden_dim=5, embedder_batch_norm=True
    )
    generator = torch.Generator().manual_seed(seed)
    flow = ConditionalFlow(config, generator)
    flow(3 * torch.randn(16, dim, generator=generator) + 1, torch.randn(16, condition_dim, generator=generator))
    return flow.eval(), {
        f"flow.{name}": tensor for name, tensor in export_state(flow, flow_layout(flow.config)).items()
    }


def prefixed(prefix, network):
    """A network's tensors as a part of a larger checkpoint."""
    return {prefix + name: tensor for name, tensor in network.state_dict().items()}


NETWORKS = {
    "big_ae": (BigAutoencoder, BIG),
    "basic_ae": (BasicAutoencoder, BASIC),
    "biggan": (BigGan, GAN),
    "dequantiser": (Dequantiser, VAE),
    "captioner": (Captioner, CAPTIONS),
}


def export_transfer(network):
    """A transferred generator under the names of the authors' code."""
    return export_state(network, transferred_layout(network.source.config, network.config.classes))


def export_hyper(network):
    """A hyper-modulated generator under the released names, as a self-aligned file holds them."""
    rows, width = network.classes.table.shape
    layout = class_layout(rows, width, sum(1 for _ in network.classes.layers) // 2)
    generator = export_state(network, hyper_layout(network.source.config, width))
    task = export_state(network.classes, layout)
    return {"generator": generator, "task": task}
