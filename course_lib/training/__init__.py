"""The one training loop, its checkpoints, and shipped weights with their cards."""

from .checkpoints import atomic_write
from .loop import ShuffledIndices, train
from .method import Budget, Method
from .weights import Card, load_card, load_weights, save_weights

__all__ = [
    "Budget",
    "Card",
    "Method",
    "ShuffledIndices",
    "atomic_write",
    "load_card",
    "load_weights",
    "save_weights",
    "train",
]
