"""Net2Net: translation between two frozen experts through a conditional flow.

Read in this order: ``training``, ``translator``, ``scores``, ``shipped``. For labels: ``domains``. For sentences:
``text``, ``gan_target``.
"""

from .scores import ExperimentData, explained, inherited, score_choice, score_regressor
from .shipped import (
    CaptionerPrompts,
    load_choice,
    load_flow,
    load_regressor,
    load_released_translator,
    load_superresolution,
)
from .training import (
    LATENT_NOISE,
    FlowMethod,
    GridRegressor,
    Pairs,
    RegressorMethod,
    choice_flow,
    encode_pairs,
    held_out_nats,
)
from .translator import ColourPresence, LowResolution, PooledSource, TransformedExpert, Translator, cross_grid, enlarge

__all__ = ["LATENT_NOISE", "CaptionerPrompts", "ColourPresence", "ExperimentData", "FlowMethod", "GridRegressor"]
__all__ += ["LowResolution", "Pairs", "PooledSource", "RegressorMethod", "TransformedExpert", "Translator"]
__all__ += ["choice_flow", "cross_grid", "encode_pairs", "enlarge", "explained", "held_out_nats", "inherited"]
__all__ += ["load_choice", "load_flow", "load_regressor", "load_released_translator", "load_superresolution"]
__all__ += ["score_choice", "score_regressor"]
