"""Weights the four papers released, by their own key names; the files themselves are not part of this course.

``reading`` reads a file, whatever it is, without running anything in it. ``strict`` finds a network in it by its
tensors, compares names and shapes, and reports. There is one file a system: ``net2net`` (its experts are
``net2net_biggan`` and ``net2net_experts``), ``stylegan`` (with Hyper-Modulation's names), ``biggan`` (with
cGANTransfer's) and ``alae`` (with MindGAN's). Each loader raises a ``CourseError`` where a file cannot be read, or its
names and shapes are not exactly those of the network.
"""

from . import alae, biggan, net2net, stylegan

__all__ = ["alae", "biggan", "net2net", "stylegan"]
