"""Net2Net: translation between two frozen experts through a conditional flow.

Read in this order: ``pairs``, ``translator``, ``training``, ``superresolution``,
``pooled``, ``bench``, ``choice``, ``exemplar``, ``residual_probe``. For sentences: ``text``, ``dequantise``,
``caption_stage``, ``gan_target``, ``text_scores``, ``text_shipped``. For labels:
``partners``, ``domains``, ``edits``, ``own_data``.
"""

from .bench import Bench
from .choice import Choice, ChoiceScores, choose_source, regressor_answers, use_translator
from .exemplar import Follows, cross_grid, score_grid
from .pairs import Pairs, encode_pairs
from .pooled import PooledSource, load_choice
from .regression import GridRegressor, Regressor, RegressorMethod
from .released import CaptionerPrompts, load_released
from .residual_probe import Leakage, leakage
from .shipped import load_flow, load_regressor, load_superresolution
from .superresolution import LowResolution, Scores, enlarge, explained, score_pictures, score_translator
from .training import FlowMethod, held_out_nats
from .translator import Translator

__all__ = [
    "Bench",
    "CaptionerPrompts",
    "Choice",
    "ChoiceScores",
    "FlowMethod",
    "Follows",
    "GridRegressor",
    "Leakage",
    "LowResolution",
    "Pairs",
    "PooledSource",
    "Regressor",
    "RegressorMethod",
    "Scores",
    "Translator",
    "choose_source",
    "cross_grid",
    "encode_pairs",
    "enlarge",
    "explained",
    "held_out_nats",
    "leakage",
    "load_choice",
    "load_flow",
    "load_regressor",
    "load_released",
    "load_superresolution",
    "regressor_answers",
    "score_grid",
    "score_pictures",
    "score_translator",
    "use_translator",
]
