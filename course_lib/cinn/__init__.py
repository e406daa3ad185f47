"""The conditional invertible network (cINN): a normalising flow whose couplings read a condition.

Read in this order: ``layers``, ``embedder``, ``config``, ``flow``.
"""

from course_lib.cinn.config import FlowConfig, GridFlowConfig
from course_lib.cinn.embedder import (
    FINE_WEIGHTS,
    ConditionShift,
    ConvEmbedder,
    DenseEmbedder,
    GridEmbedder,
    LocalShift,
    TaperedEmbedder,
    ridge_regression,
)
from course_lib.cinn.flow import ConditionalFlow, GridFlow, NLLTerms, build_embedder, flow_loss, nll_terms
from course_lib.cinn.layers import (
    LEAKY_SLOPE,
    ActNorm,
    ConditionalCoupling,
    FullyConnectedNet,
    InvertibleLeakyReLU,
    Shuffle,
)

__all__ = [
    "FINE_WEIGHTS",
    "LEAKY_SLOPE",
    "ActNorm",
    "ConditionShift",
    "ConditionalCoupling",
    "ConditionalFlow",
    "ConvEmbedder",
    "DenseEmbedder",
    "FlowConfig",
    "FullyConnectedNet",
    "GridEmbedder",
    "GridFlow",
    "GridFlowConfig",
    "InvertibleLeakyReLU",
    "LocalShift",
    "NLLTerms",
    "Shuffle",
    "TaperedEmbedder",
    "build_embedder",
    "flow_loss",
    "nll_terms",
    "ridge_regression",
]
