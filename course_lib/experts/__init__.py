"""Experts: frozen networks that methods translate between. Start with :func:`load_expert`."""

import lazy_loader

_NETWORKS = "Classifier ClassifierConfig GridAutoencoder GridAutoencoderConfig GridExpert LatentSpace LayerExpert"
_NAMES = {
    "conditions": "BigBiGAN BlackBox LabelExpert SentenceExpert export_decoder export_onnx",
    "networks": f"{_NETWORKS} Posterior Segmenter SegmenterConfig",
    "protocol": "SourceExpert TargetExpert fingerprint freeze load_expert",
}
_NAMES = {module: names.split() for module, names in _NAMES.items()}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_NAMES)
