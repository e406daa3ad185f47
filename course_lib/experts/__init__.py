"""Experts: frozen networks that methods translate between. Start with :func:`load_expert`."""

from .autoencoder import GridAutoencoder, GridAutoencoderConfig, GridExpert, Posterior
from .black_box import BigBiGAN, BlackBox, export_decoder, export_onnx
from .classifier import Classifier, ClassifierConfig, LayerExpert, Segmenter, SegmenterConfig
from .labels import LabelExpert
from .latent_space import LatentSpace, measure_latents
from .protocol import SourceExpert, TargetExpert, fingerprint, freeze
from .sentence import SentenceExpert, SentenceMemory
from .shipped import load_expert, load_over_source

__all__ = [
    "BigBiGAN",
    "BlackBox",
    "Classifier",
    "ClassifierConfig",
    "GridAutoencoder",
    "GridAutoencoderConfig",
    "GridExpert",
    "LabelExpert",
    "LatentSpace",
    "LayerExpert",
    "Posterior",
    "Segmenter",
    "SegmenterConfig",
    "SentenceExpert",
    "SentenceMemory",
    "SourceExpert",
    "TargetExpert",
    "export_decoder",
    "export_onnx",
    "fingerprint",
    "freeze",
    "load_expert",
    "load_over_source",
    "measure_latents",
]
