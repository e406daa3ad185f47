"""Drawing from trained generators: one interface, grids, walks, and the scores of whole folders of checkpoints."""

from .generator import ConditionalGenerator
from .grids import Grid
from .opening import open_generator
from .walks import Walk

__all__ = ["ConditionalGenerator", "Grid", "Walk", "open_generator"]
