"""Net2Net: translation between two frozen experts through a conditional flow.

Read in this order: ``training``, ``translator``, ``sources``, ``scores``, ``shipped``. For labels: ``domains``. For
sentences: ``text``, ``gan_target``.
"""

from .scores import ExperimentData, explained, inherited, score_choice, score_regressor
from .shipped import CaptionerPrompts, load_choice, load_flow, load_regressor, load_released, load_superresolution
from .sources import ColourPresence, LowResolution, PooledSource, TransformedExpert, enlarge
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
from .translator import Translator, cross_grid

__all__ = [
    "LATENT_NOISE",
    "CaptionerPrompts",
    "ColourPresence",
    "ExperimentData",
    "FlowMethod",
    "GridRegressor",
    "LowResolution",
    "Pairs",
    "PooledSource",
    "RegressorMethod",
    "TransformedExpert",
    "Translator",
    "choice_flow",
    "cross_grid",
    "encode_pairs",
    "enlarge",
    "explained",
    "held_out_nats",
    "inherited",
    "load_choice",
    "load_flow",
    "load_regressor",
    "load_released",
    "load_superresolution",
    "score_choice",
    "score_regressor",
]
