"""Mind2Mind: freeze the layers next to the pictures, and train a tiny GAN on the codes between them.

Read in this order: ``codes``, ``networks``, ``training``, ``transferred``, ``transfer``, ``scores``, ``bound``.
"""

from .bound import Bound, measure_bound, wasserstein
from .codes import encode_set
from .networks import DIGITS, QUARTER, SMALL, MindConfig, MindCritic, MindGenerator, uniform_noise
from .released import load_released
from .scores import TransferScores, auto_encoding_ceiling, gaussian_baseline, score_transfer
from .shipped import open_transferred
from .training import MindMethod, gradient_penalty
from .transfer import Transferred, transfer
from .transferred import TransferredGAN

__all__ = [
    "DIGITS",
    "QUARTER",
    "SMALL",
    "Bound",
    "MindConfig",
    "MindCritic",
    "MindGenerator",
    "MindMethod",
    "TransferScores",
    "Transferred",
    "TransferredGAN",
    "auto_encoding_ceiling",
    "encode_set",
    "gaussian_baseline",
    "gradient_penalty",
    "load_released",
    "measure_bound",
    "open_transferred",
    "score_transfer",
    "transfer",
    "uniform_noise",
    "wasserstein",
]
