"""The one training loop, its checkpoints, and shipped weights with their cards."""

from .files import Card, atomic_write, load_card, load_weights, save_weights
from .loop import ShuffledIndices, train
from .method import Budget, Method

__all__ = ["Budget", "Card", "Method", "ShuffledIndices", "atomic_write", "load_card", "load_weights", "save_weights"]
__all__ += ["train"]
