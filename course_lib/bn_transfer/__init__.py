"""Class transfer: new classes of a conditional GAN get their batch norm parameters from those of old classes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "propagation": ["TransferGenerator", "load_bn_transfer"],
        "transfer": ["PropagationMethod", "make_networks", "new_class_data", "set_stage", "similar_mixtures"],
    },
)
