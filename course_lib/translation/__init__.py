"""Net2Net: translation between two frozen experts through a conditional flow.

Read in this order: ``pairs``, ``translator``, ``training``, ``superresolution``,
``choice``, ``exemplar``. For sentences: ``text``, ``dequantise``,
``caption_stage``, ``gan_target``, ``text_scores``, ``text_shipped``. For labels:
``partners``, ``domains``, ``edits``, ``own_data``.
"""

from .choice import (
    Choice,
    ChoiceScores,
    ColourPresence,
    ExperimentData,
    PooledSource,
    TransformedExpert,
    choice_flow,
    load_choice,
    regressor_answers,
    score_choice,
)
from .exemplar import cross_grid, inherited
from .pairs import Pairs, encode_pairs
from .regression import GridRegressor, Regressor, RegressorMethod
from .released import CaptionerPrompts, load_released
from .shipped import load_flow, load_regressor, load_superresolution
from .superresolution import LowResolution, Scores, enlarge, explained, score_pictures, score_translator
from .training import FlowMethod, held_out_nats
from .translator import Translator

__all__ = [
    "CaptionerPrompts",
    "Choice",
    "ChoiceScores",
    "ColourPresence",
    "ExperimentData",
    "FlowMethod",
    "GridRegressor",
    "LowResolution",
    "Pairs",
    "PooledSource",
    "Regressor",
    "RegressorMethod",
    "Scores",
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
    "regressor_answers",
    "score_choice",
    "score_pictures",
    "score_translator",
]
