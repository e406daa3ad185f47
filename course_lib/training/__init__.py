"""The one training loop, its checkpoints, and shipped weights with their cards."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "loop": ["ShuffledIndices", "train"],
        "runs": ["Budget", "Card", "Method", "atomic_write", "load_card", "load_weights", "save_weights"],
    },
)
