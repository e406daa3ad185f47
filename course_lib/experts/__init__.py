"""Experts: frozen networks that methods translate between. Start with :func:`load_expert`."""

from .autoencoder import Autoencoder, AutoencoderConfig
from .classifier import Classifier, ClassifierConfig, LayerExpert
from .protocol import SourceExpert, TargetExpert, fingerprint, freeze
from .shipped import load_expert

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "Classifier",
    "ClassifierConfig",
    "LayerExpert",
    "SourceExpert",
    "TargetExpert",
    "fingerprint",
    "freeze",
    "load_expert",
]
