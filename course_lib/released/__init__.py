"""Weights the four papers released, read by their own key names.

The checkpoints themselves are not part of this course. ``checkpoint`` reads a file without running anything in it, and
``strict`` compares it with a network; ``flow_names`` knows what the tensors of a Net2Net flow are called, ``flow``
loads one. ``big_ae``, ``basic_ae``, ``biggan``, ``dequantiser`` and ``captioner`` are its experts, built so that their
tensors carry the released names; ``translator`` opens a checkpoint that holds all of these, ``describe`` says what a
file is.

The GANs of the other papers are networks of this course that compute the same function, so their tensors are renamed
(``renamed``): ``stylegan`` and ``hyper_names`` for Hyper-Modulation, ``alae`` for Mind2Mind's source. ``parts`` reads
files that hold several networks.
"""

from course_lib.released.alae import ALAE_PARTS, export_alae, load_alae
from course_lib.released.basic_ae import BasicAutoencoder, BasicAutoencoderConfig, load_basic_ae
from course_lib.released.big_ae import (
    RELEASED_AUTOENCODERS,
    BigAutoencoder,
    BigAutoencoderConfig,
    load_big_ae,
)
from course_lib.released.biggan import RELEASED_BIGGANS, BigGan, GeneratorConfig, load_biggan
from course_lib.released.captioner import Captioner, CaptionerConfig, load_captioner
from course_lib.released.checkpoint import Checkpoint, read_checkpoint, read_state_dict
from course_lib.released.dequantiser import Dequantiser, DequantiserConfig, load_dequantiser
from course_lib.released.describe import describe
from course_lib.released.flow import (
    RELEASED_FLOWS,
    export_flow,
    infer_flow_config,
    load_flow,
    load_flow_state,
    select_flow_state,
)
from course_lib.released.flow_names import FlowEntry, flow_layout
from course_lib.released.parts import pick_part, read_parts
from course_lib.released.stylegan import (
    export_critic,
    export_stylegan,
    load_stylegan,
    load_stylegan_critic,
)
from course_lib.released.translator import (
    RELEASED_TRANSLATORS,
    TranslatorConfig,
    TranslatorParts,
    load_translator_parts,
    translator_layout,
)

__all__ = [
    "ALAE_PARTS",
    "RELEASED_AUTOENCODERS",
    "RELEASED_BIGGANS",
    "RELEASED_FLOWS",
    "RELEASED_TRANSLATORS",
    "BasicAutoencoder",
    "BasicAutoencoderConfig",
    "BigAutoencoder",
    "BigAutoencoderConfig",
    "BigGan",
    "Captioner",
    "CaptionerConfig",
    "Checkpoint",
    "Dequantiser",
    "DequantiserConfig",
    "FlowEntry",
    "GeneratorConfig",
    "TranslatorConfig",
    "TranslatorParts",
    "describe",
    "export_alae",
    "export_critic",
    "export_flow",
    "export_stylegan",
    "flow_layout",
    "infer_flow_config",
    "load_alae",
    "load_basic_ae",
    "load_big_ae",
    "load_biggan",
    "load_captioner",
    "load_dequantiser",
    "load_flow",
    "load_flow_state",
    "load_stylegan",
    "load_stylegan_critic",
    "load_translator_parts",
    "pick_part",
    "read_checkpoint",
    "read_parts",
    "read_state_dict",
    "select_flow_state",
    "translator_layout",
]
