"""Class transfer: new classes of a conditional GAN get their batch norm parameters from those of old classes."""

from .propagation import TransferGenerator, load_bn_transfer, load_codes, propagate
from .transfer import PropagationMethod, PropagationSettings, make_networks, new_class_data, set_stage, similar_mixtures

__all__ = ["PropagationMethod", "PropagationSettings", "TransferGenerator", "load_bn_transfer", "load_codes"]
__all__ += ["make_networks", "new_class_data", "propagate", "set_stage", "similar_mixtures"]
