"""Scores: the judge's features, distances between sets of them, scores of classes and of domains, linear probes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"scores": ["Judge", "diversity", "frechet_distance"]}
)
