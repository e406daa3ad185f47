"""Hyper-Modulation: a hypernetwork turns a frozen unconditional StyleGAN into a conditional one."""

from .adafm import ModulatedConv
from .baselines import ConditionalStyleGAN
from .critic import ConditionalCritic
from .generator import HyperGenerator, Modulation
from .hypernetwork import ClassNetwork
from .parts import Part, trained_parts
from .self_alignment import SelfAlignmentMethod
from .shipped import load_hypermod
from .transfer import PUBLISHED, TransferMethod, TransferSettings
from .variants import VARIANTS, build_variant

__all__ = [
    "PUBLISHED",
    "VARIANTS",
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
    "build_variant",
    "load_hypermod",
    "trained_parts",
]
