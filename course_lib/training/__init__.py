"""The one training loop, its checkpoints, and shipped weights with their cards."""

import lazy_loader

_RUNS = ["Budget", "Card", "Method", "atomic_write", "load_card", "load_weights", "save_weights"]
_NAMES = {"loop": ["ShuffledIndices", "train"], "runs": _RUNS}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_NAMES)
