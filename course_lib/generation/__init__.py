"""Drawing from trained generators: one interface, grids, walks, and the scores of whole folders of checkpoints."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"generator": ["Walk", "open_generator"]})
