"""The conditional invertible network (cINN): a normalising flow whose couplings read a condition. Read in this order:
``layers``, ``flow``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "flow": ["ConditionalFlow", "FlowConfig", "GridFlow", "GridFlowConfig", "flow_loss"],
        "layers": ["ActNorm", "AffineCoupling", "FullyConnectedNet", "LocalShift", "Shuffle"],
    },
)
