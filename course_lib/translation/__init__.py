"""Net2Net: translation between two frozen experts through a conditional flow. Read ``translator`` and ``shipped``; for
labels ``domains``, for sentences ``text``."""

import lazy_loader

_NAMES = {
    "shipped": "load_choice load_flow load_regressor load_released_translator load_superresolution",
    "translator": "ExperimentData FlowMethod GridRegressor LowResolution Pairs PooledSource TransformedExpert "
    "Translator choice_flow cross_grid encode_pairs enlarge explained held_out_nats inherited score_choice "
    "score_regressor",
}
_NAMES = {module: names.split() for module, names in _NAMES.items()}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_NAMES)
