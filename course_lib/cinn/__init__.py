"""The conditional invertible network (cINN): a normalising flow whose couplings read a condition. Read in this order:
``layers``, ``flow``."""

import lazy_loader

_FLOW = ["ConditionalFlow", "FlowConfig", "GridFlow", "GridFlowConfig", "flow_loss"]
_LAYERS = ["ActNorm", "AffineCoupling", "FullyConnectedNet", "LocalShift", "Shuffle"]
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"flow": _FLOW, "layers": _LAYERS})
