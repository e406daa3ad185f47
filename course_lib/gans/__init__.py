"""Generators to reuse: BigGAN, StyleGAN and ALAE, and their layers."""
