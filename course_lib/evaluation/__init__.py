"""Scores: the judge's features, distances between sets of them, scores of classes and of domains, linear probes."""

from .distances import diversity, frechet_distance
from .features import Judge

__all__ = ["Judge", "diversity", "frechet_distance"]
