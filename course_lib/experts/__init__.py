"""Experts: frozen networks that methods translate between. Start with :func:`load_expert`."""

from .autoencoder import Autoencoder, AutoencoderConfig
from .big_bi_gan import BigBiGAN
from .black_box import BlackBox, export_decoder, export_encoder, export_onnx
from .classifier import Classifier, ClassifierConfig, LayerExpert
from .grid_autoencoder import GridAutoencoder, GridAutoencoderConfig, GridExpert
from .labels import LabelExpert
from .latent_space import LatentSpace, measure_latents
from .protocol import SourceExpert, TargetExpert, fingerprint, freeze
from .segmenter import Segmenter, SegmenterConfig, SegmenterExpert
from .sentence import SentenceExpert
from .sentence_memory import SentenceMemory
from .shipped import load_expert, load_over_source

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
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
    "Segmenter",
    "SegmenterConfig",
    "SegmenterExpert",
    "SentenceExpert",
    "SentenceMemory",
    "SourceExpert",
    "TargetExpert",
    "export_decoder",
    "export_encoder",
    "export_onnx",
    "fingerprint",
    "freeze",
    "load_expert",
    "load_over_source",
    "measure_latents",
]
