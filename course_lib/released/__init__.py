"""Weights the four papers released, by their own key names; the files themselves are not part of this course.

``reading`` reads a file, whatever it is, without running anything in it. ``strict`` finds a network in it by its
tensors and compares names and shapes; ``recognise`` reports. There is one file a system: ``net2net`` (its experts are
``net2net_biggan`` and ``net2net_experts``), ``stylegan`` (with Hyper-Modulation's names), ``biggan`` (with
cGANTransfer's) and ``alae`` (with MindGAN's).
"""

from .alae import ALAE_PARTS, alae_layouts, load_alae, mlp_alae_layouts, read_mindgan
from .biggan import (
    load_biggan,
    load_biggan_discriminator,
    read_transferred,
    transferred_discriminator_layout,
    transferred_layout,
)
from .net2net import (
    RELEASED_FLOWS,
    RELEASED_TRANSLATORS,
    TranslatorConfig,
    TranslatorParts,
    flow_layout,
    load_expert,
    load_flow,
    load_translator_parts,
    translator_layout,
)
from .net2net_biggan import BigAutoencoder, BigAutoencoderConfig, BigGan, GeneratorConfig
from .net2net_experts import (
    RELEASED_EXPERTS,
    BasicAutoencoder,
    BasicAutoencoderConfig,
    Captioner,
    CaptionerConfig,
    Dequantiser,
    DequantiserConfig,
)
from .reading import read_file
from .recognise import describe
from .strict import export_state, load_state
from .stylegan import (
    HyperSizes,
    class_layout,
    cut_stylegan,
    discriminator_layout,
    hyper_layout,
    load_stylegan,
    load_stylegan_discriminator,
    read_hyper,
    stylegan_layout,
)

__all__ = [
    "ALAE_PARTS",
    "RELEASED_EXPERTS",
    "RELEASED_FLOWS",
    "RELEASED_TRANSLATORS",
    "BasicAutoencoder",
    "BasicAutoencoderConfig",
    "BigAutoencoder",
    "BigAutoencoderConfig",
    "BigGan",
    "Captioner",
    "CaptionerConfig",
    "Dequantiser",
    "DequantiserConfig",
    "GeneratorConfig",
    "HyperSizes",
    "TranslatorConfig",
    "TranslatorParts",
    "alae_layouts",
    "class_layout",
    "cut_stylegan",
    "describe",
    "discriminator_layout",
    "export_state",
    "flow_layout",
    "hyper_layout",
    "load_alae",
    "load_biggan",
    "load_biggan_discriminator",
    "load_expert",
    "load_flow",
    "load_state",
    "load_stylegan",
    "load_stylegan_discriminator",
    "load_translator_parts",
    "mlp_alae_layouts",
    "read_file",
    "read_hyper",
    "read_mindgan",
    "read_transferred",
    "stylegan_layout",
    "transferred_discriminator_layout",
    "transferred_layout",
    "translator_layout",
]
