"""Net2Net: translation between two frozen experts through a conditional flow."""

from .pairs import Pairs, encode_pairs
from .training import FlowMethod, Regressor, RegressorMethod
from .shipped import load_flow, load_superresolution
from .translator import Translator

__all__ = ["FlowMethod", "Pairs", "Regressor", "RegressorMethod", "Translator", "encode_pairs", "load_flow", "load_superresolution"]
