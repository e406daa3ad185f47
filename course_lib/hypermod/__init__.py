"""Hyper-Modulation: a hypernetwork turns a frozen unconditional StyleGAN into a conditional one."""

from .adafm import ModulatedConv
from .generator import HyperGenerator
from .hypernetwork import ClassNetwork

__all__ = ["ClassNetwork", "HyperGenerator", "ModulatedConv"]
