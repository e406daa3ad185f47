"""The dequantiser of Net2Net: it turns the discrete class embeddings of BigGAN into a density that a flow can learn."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from course_lib.experts.autoencoder import Posterior
from course_lib.released.checkpoint import read_state_dict
from course_lib.released.layers import FrozenNetwork, fully_connected, posterior_of
from course_lib.released.strict import load_exactly, reading_sizes

__all__ = ["Dequantiser", "DequantiserConfig", "infer_dequantiser_config", "load_dequantiser"]


@dataclass(frozen=True)
class DequantiserConfig:
    """Sizes: width of an embedding, of the code, and of the hidden layers."""

    dim: int = 128
    code_dim: int = 128
    hidden_dim: int = 4096


class Dequantiser(FrozenNetwork):
    """A variational autoencoder of vectors; its random reconstruction stands in for the exact embedding.

    A thousand embeddings are a thousand points, and a flow trained on points puts ever narrower spikes on them. The
    picture of a training pair is made of the exact embedding, the flow's target of the random one.

    References:
        Net2Net (Rombach et al. 2020), supplement, table 5; CompVis/net2net, ``BasicFullyConnectedVAE``.
    """

    def __init__(self, config: DequantiserConfig | None = None):
        super().__init__()
        self.config = config = config or DequantiserConfig()
        hidden = [config.hidden_dim] * 3
        self.encoder = fully_connected([config.dim, *hidden, config.dim])
        self.mu_layer = fully_connected([config.dim, *hidden, config.code_dim])
        self.logvar_layer = fully_connected([config.dim, *hidden, config.code_dim])
        self.decoder = fully_connected([config.code_dim, *hidden, config.hidden_dim, config.dim])
        self.frozen()

    @torch.no_grad()
    def posterior(self, embedding: Tensor) -> Posterior:
        """Distribution of the code for embeddings ``(B, dim)``."""
        features = self.encoder(embedding)
        return posterior_of(torch.cat([self.mu_layer(features), self.logvar_layer(features)], dim=1))

    @torch.no_grad()
    def forward(self, embedding: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Random neighbours ``(B, dim)`` of embeddings ``(B, dim)``."""
        return self.decoder(self.posterior(embedding).sample(generator))


def infer_dequantiser_config(state: Mapping[str, Tensor]) -> DequantiserConfig:
    """Reads the sizes off the tensors.

    Raises:
        CourseError: a tensor that tells a size is missing.
    """
    with reading_sizes("a dequantiser"):
        hidden, dim = state["encoder.main.0.weight"].shape
        return DequantiserConfig(dim, state["decoder.main.0.weight"].shape[1], hidden)


def load_dequantiser(path: str | Path, config: DequantiserConfig | None = None) -> Dequantiser:
    """Reads the dequantiser's file.

    Args:
        path: ``.safetensors`` or a torch file.
        config: what the file must fit, ``DequantiserConfig()`` for the released one; None reads the sizes off it.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    state = read_state_dict(path)
    with torch.device("meta"):
        network = Dequantiser(config or infer_dequantiser_config(state))
    return load_exactly(network, state, "this dequantiser")
