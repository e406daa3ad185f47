"""The conditional invertible network (cINN): a normalising flow whose couplings read a condition.

Read in this order: ``layers``, ``embedder``, ``flow``.
"""

from course_lib.cinn.embedder import FINE_WEIGHTS, ConditionShift, GridEmbedder, LocalShift, ridge_regression
from course_lib.cinn.flow import ConditionalFlow, FlowConfig, GridFlow, GridFlowConfig, flow_loss
from course_lib.cinn.layers import LEAKY_SLOPE, ActNorm, AffineCoupling, FullyConnectedNet, Shuffle

__all__ = ["FINE_WEIGHTS", "LEAKY_SLOPE", "ActNorm", "AffineCoupling", "ConditionShift", "ConditionalFlow"]
__all__ += ["FlowConfig", "FullyConnectedNet", "GridEmbedder", "GridFlow", "GridFlowConfig", "LocalShift", "Shuffle"]
__all__ += ["flow_loss", "ridge_regression"]
