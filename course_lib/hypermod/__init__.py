"""Hyper-Modulation: a hypernetwork turns a frozen unconditional StyleGAN into a conditional one."""

from .adafm import ModulatedConv
from .baselines import ConditionalStyleGAN
from .critic import ConditionalCritic
from .generator import HyperGenerator, Modulation
from .hypernetwork import ClassNetwork
from .parts import Part, trained_parts
from .self_alignment import SelfAlignmentMethod
from .transfer import PUBLISHED, TransferMethod, TransferSettings

__all__ = [
    "PUBLISHED",
    "ClassNetwork",
    "ConditionalCritic",
    "ConditionalStyleGAN",
    "HyperGenerator",
    "ModulatedConv",
    "Modulation",
    "Part",
    "SelfAlignmentMethod",
    "TransferMethod",
    "TransferSettings",
    "trained_parts",
]
