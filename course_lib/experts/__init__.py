"""Experts: frozen networks that methods translate between. Start with :func:`load_expert`."""

from .autoencoder import Autoencoder, AutoencoderConfig
from .black_box import BlackBox, export_decoder, export_encoder, export_onnx
from .classifier import Classifier, ClassifierConfig, LayerExpert
from .labels import LabelExpert
from .protocol import SourceExpert, TargetExpert, fingerprint, freeze
from .sentence import SentenceExpert
from .shipped import load_expert

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "BlackBox",
    "Classifier",
    "ClassifierConfig",
    "LabelExpert",
    "LayerExpert",
    "SentenceExpert",
    "SourceExpert",
    "TargetExpert",
    "export_decoder",
    "export_encoder",
    "export_onnx",
    "fingerprint",
    "freeze",
    "load_expert",
]
