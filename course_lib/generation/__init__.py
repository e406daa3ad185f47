"""Drawing from trained generators: one interface, grids, walks, and the scores of whole folders of checkpoints."""

from .generator import ConditionalGenerator, open_generator
from .grids import Grid, Walk

__all__ = ["ConditionalGenerator", "Grid", "Walk", "open_generator"]
