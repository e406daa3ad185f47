"""Net2Net: translation between two frozen experts through a conditional flow. Read ``training``, ``translator``,
``scores``, ``shipped``; for labels ``domains``, for sentences ``text``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "scores": ["ExperimentData", "explained", "inherited", "score_choice", "score_regressor"],
        "shipped": ["load_choice", "load_flow", "load_regressor", "load_released_translator", "load_superresolution"],
        "training": ["FlowMethod", "GridRegressor", "Pairs", "choice_flow", "encode_pairs", "held_out_nats"],
        "translator": ["LowResolution", "PooledSource", "TransformedExpert", "Translator", "cross_grid", "enlarge"],
    },
)
