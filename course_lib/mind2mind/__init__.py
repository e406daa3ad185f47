"""Mind2Mind: freeze the layers next to the pictures, and train a tiny GAN on the codes between them.

Read in this order: ``halves``, ``networks``, ``training``, ``transfer``, ``scores``, ``bound``.
"""

from .bound import measure_bound, wasserstein
from .halves import MainDirections, StyleExpert, encode_set, load_halves
from .networks import DIGITS, MindConfig, MindCritic, MindGenerator, load_released, uniform_noise
from .scores import decoded_distance, draw_gaussian, score_transfer
from .training import MindMethod, gradient_penalty
from .transfer import TransferredGAN, open_transferred, transfer

__all__ = [
    "DIGITS",
    "MainDirections",
    "MindConfig",
    "MindCritic",
    "MindGenerator",
    "MindMethod",
    "StyleExpert",
    "TransferredGAN",
    "decoded_distance",
    "draw_gaussian",
    "encode_set",
    "gradient_penalty",
    "load_halves",
    "load_released",
    "measure_bound",
    "open_transferred",
    "score_transfer",
    "transfer",
    "uniform_noise",
    "wasserstein",
]
