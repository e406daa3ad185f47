"""Scores: the judge's features, distances between sets of them, consistency and diversity."""

from .distances import diversity, frechet_distance
from .judge import Judge

__all__ = ["Judge", "diversity", "frechet_distance"]
