"""Mind2Mind: freeze the layers next to the pictures, and train a tiny GAN on the codes between them.

Read in this order: ``halves``, ``mindgan``, ``bound``.
"""

from .bound import measure_bound, wasserstein
from .halves import MainDirections, StyleExpert, encode_set, load_halves
from .mindgan import (
    DIGITS,
    MindConfig,
    MindMethod,
    TransferredGAN,
    decoded_distance,
    draw_gaussian,
    open_transferred,
    score_transfer,
    transfer_gan,
    uniform_noise,
)

__all__ = ["DIGITS", "MainDirections", "MindConfig", "MindMethod", "StyleExpert", "TransferredGAN", "decoded_distance"]
__all__ += ["draw_gaussian", "encode_set", "load_halves", "measure_bound", "open_transferred", "score_transfer"]
__all__ += ["transfer_gan", "uniform_noise", "wasserstein"]
