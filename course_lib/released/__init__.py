"""Weights the four papers released, by their own key names; the files themselves are not part of this course.

``reading`` reads a file without running anything in it, finds networks in it by their tensors, compares and reports;
the others load one system each. What does not hold exactly the network's tensors is a ``CourseError``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["alae", "biggan", "net2net", "stylegan"])
