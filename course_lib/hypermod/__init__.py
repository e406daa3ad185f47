"""Hyper-Modulation: a hypernetwork turns a frozen unconditional StyleGAN into a conditional one."""

from .files import load_hypermod
from .generator import ClassNetwork, HyperGenerator, ModulatedConv, Modulation
from .self_alignment import SelfAlignmentMethod
from .training import ConditionalDiscriminator, HyperModulationMethod, draw_classes, transfer_data

__all__ = [
    "ClassNetwork",
    "ConditionalDiscriminator",
    "HyperGenerator",
    "HyperModulationMethod",
    "ModulatedConv",
    "Modulation",
    "SelfAlignmentMethod",
    "draw_classes",
    "load_hypermod",
    "transfer_data",
]
