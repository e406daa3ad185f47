"""Weights the four papers released, by their own key names; the files themselves are not part of this course.

``reading`` reads a file, whatever it is, without running anything in it. ``strict`` finds a network in it by its
tensors, compares names and shapes, and reports. There is one file a system: ``net2net`` (its experts in
``net2net_experts``), ``stylegan`` (with Hyper-Modulation), ``biggan`` (with cGANTransfer) and ``alae`` (with MindGAN).
Each loader raises a ``CourseError`` where a file cannot be read, or does not hold exactly what the network has.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["alae", "biggan", "net2net", "stylegan"],
)
