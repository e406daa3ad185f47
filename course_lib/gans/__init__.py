"""Generators to reuse, and what their training needs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "biggan": ["CIFAR32", "IMAGENET128", "BigGANConfig", "Discriminator", "Generator", "start_weights"],
    },
)
