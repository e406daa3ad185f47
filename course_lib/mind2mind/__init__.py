"""Mind2Mind: freeze the layers next to the pictures, and train a tiny GAN on the codes between them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bound": ["measure_bound", "wasserstein"],
        "halves": ["MainDirections", "StyleExpert", "encode_set", "load_halves"],
        "mindgan": ["DIGITS", "MindMethod", "open_transferred", "transfer_gan", "uniform_noise"],
    },
)
