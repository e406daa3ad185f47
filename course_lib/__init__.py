"""Helpers of a hands-on course on reusing trained generative networks."""

__version__ = "0.1.0"
