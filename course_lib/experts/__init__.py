"""Experts: frozen networks that methods translate between. Start with :func:`load_expert`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "autoencoder": ["GridAutoencoder", "GridAutoencoderConfig", "GridExpert", "LatentSpace", "Posterior"],
        "black_box": ["BigBiGAN", "BlackBox", "export_decoder", "export_onnx"],
        "classifier": ["Classifier", "ClassifierConfig", "LayerExpert", "Segmenter", "SegmenterConfig"],
        "conditions": ["LabelExpert", "SentenceExpert"],
        "protocol": ["SourceExpert", "TargetExpert", "fingerprint", "freeze", "load_expert"],
    },
)
