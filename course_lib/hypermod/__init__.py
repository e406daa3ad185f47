"""Hyper-Modulation: a hypernetwork turns a frozen unconditional StyleGAN into a conditional one."""

from .generator import ClassNetwork, HyperGenerator, ModulatedConv, load_hypermod
from .training import ConditionalDiscriminator, HyperModulationMethod, SelfAlignmentMethod, draw_classes, transfer_data

__all__ = ["ClassNetwork", "ConditionalDiscriminator", "HyperGenerator", "HyperModulationMethod", "ModulatedConv"]
__all__ += ["SelfAlignmentMethod", "draw_classes", "load_hypermod", "transfer_data"]
