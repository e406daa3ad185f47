"""Weights the four papers released, by their own key names; the files themselves are not part of this course.

``reading`` reads a file, whatever it is, without running anything in it. ``strict`` finds a network in it by its
tensors, compares names and shapes, and reports. There is one file a system: ``net2net`` (its experts are
``net2net_experts``), ``stylegan`` (with Hyper-Modulation's names), ``biggan`` (with
cGANTransfer's) and ``alae`` (with MindGAN's). Each loader raises a ``CourseError`` where a file cannot be read, or its
names and shapes are not exactly those of the network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["alae", "biggan", "net2net", "stylegan"],
)
