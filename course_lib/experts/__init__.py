"""Experts: frozen networks that methods translate between. Start with :func:`load_expert`."""

from .autoencoder import GridAutoencoder, GridAutoencoderConfig, GridExpert, LatentSpace, Posterior, measure_latents
from .black_box import BigBiGAN, BlackBox, export_decoder, export_onnx
from .classifier import Classifier, ClassifierConfig, LayerExpert, Segmenter, SegmenterConfig
from .conditions import LabelExpert, SentenceExpert, SentenceMemory
from .protocol import SourceExpert, SourceModel, TargetExpert, fingerprint, freeze, load_expert, load_over_source

__all__ = ["BigBiGAN", "BlackBox", "Classifier", "ClassifierConfig", "GridAutoencoder", "GridAutoencoderConfig"]
__all__ += ["GridExpert", "LabelExpert", "LatentSpace", "LayerExpert", "Posterior", "Segmenter", "SegmenterConfig"]
__all__ += ["SentenceExpert", "SentenceMemory", "SourceExpert", "SourceModel", "TargetExpert", "export_decoder"]
__all__ += ["export_onnx", "fingerprint", "freeze", "load_expert", "load_over_source", "measure_latents"]
