"""Hyper-Modulation: a hypernetwork turns a frozen unconditional StyleGAN into a conditional one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "generator": ["HyperGenerator", "ModulatedConv", "load_hypermod"],
        "training": ["ConditionalDiscriminator", "HyperModulationMethod", "draw_classes", "transfer_data"],
    },
)
