"""The conditional invertible network (cINN): a normalising flow whose couplings read a condition.

Read in this order: ``actnorm``, ``activation``, ``networks``, ``coupling``, ``shuffle``, ``block``, ``embedder``,
``config``, ``flow``, ``loss``; then ``fast`` and ``packed``, which compute the same function with less work, and
``whitening`` and ``grid_flow``, which has convolutions in the couplings.
"""

from course_lib.cinn.activation import Identity, InvertibleLeakyReLU
from course_lib.cinn.actnorm import ActNorm
from course_lib.cinn.block import FlowBlock
from course_lib.cinn.config import FlowConfig
from course_lib.cinn.coupling import ConditionalCoupling
from course_lib.cinn.embedder import ConvEmbedder, DenseEmbedder, GridEmbedder, TaperedEmbedder, build_embedder
from course_lib.cinn.flow import ConditionalFlow
from course_lib.cinn.grid_flow import GridFlow, GridFlowConfig
from course_lib.cinn.loss import NLLTerms, flow_loss, nll_terms
from course_lib.cinn.networks import FullyConnectedNet
from course_lib.cinn.packed import PackedFlow
from course_lib.cinn.shift import FINE_WEIGHTS, ConditionShift, LocalShift
from course_lib.cinn.shuffle import Shuffle
from course_lib.cinn.whitening import Whitening

__all__ = [
    "FINE_WEIGHTS",
    "ActNorm",
    "ConditionShift",
    "ConditionalCoupling",
    "ConditionalFlow",
    "ConvEmbedder",
    "DenseEmbedder",
    "FlowBlock",
    "FlowConfig",
    "FullyConnectedNet",
    "GridEmbedder",
    "GridFlow",
    "GridFlowConfig",
    "Identity",
    "InvertibleLeakyReLU",
    "LocalShift",
    "NLLTerms",
    "PackedFlow",
    "Shuffle",
    "TaperedEmbedder",
    "Whitening",
    "build_embedder",
    "flow_loss",
    "nll_terms",
]
