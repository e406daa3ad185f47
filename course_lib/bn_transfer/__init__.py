"""Class transfer: new classes of a conditional GAN get their batch norm parameters from those of old classes."""

from .propagation import TransferGenerator, propagate
from .shipped import load_bn_transfer, load_codes
from .transfer import PropagationMethod, PropagationSettings, make_networks, set_stage, similar_mixtures, transfer_data

__all__ = [
    "PropagationMethod",
    "PropagationSettings",
    "TransferGenerator",
    "load_bn_transfer",
    "load_codes",
    "make_networks",
    "propagate",
    "set_stage",
    "similar_mixtures",
    "transfer_data",
]
