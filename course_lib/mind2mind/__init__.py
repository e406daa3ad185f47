"""Mind2Mind: freeze the layers next to the pictures, and train a tiny GAN on the codes between them.

Read in this order: ``halves``, ``mindgan``, ``bound``.
"""

from .bound import measure_bound, wasserstein
from .halves import MainDirections, StyleExpert, encode_set, load_halves
from .mindgan import DIGITS, MindConfig, MindMethod, TransferredGAN, open_transferred, transfer_gan, uniform_noise

__all__ = ["DIGITS", "MainDirections", "MindConfig", "MindMethod", "StyleExpert", "TransferredGAN", "encode_set"]
__all__ += ["load_halves", "measure_bound", "open_transferred", "transfer_gan", "uniform_noise", "wasserstein"]
