"""Generators to reuse, and what their training needs."""

from .biggan import CIFAR32, IMAGENET128, BigGANConfig, Discriminator, Generator, start_weights

__all__ = ["CIFAR32", "IMAGENET128", "BigGANConfig", "Discriminator", "Generator", "start_weights"]
