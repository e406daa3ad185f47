"""What the tensors of a hyper-modulated generator are called in the authors' files.

No such weights were released. The names are those that the authors' own code writes and reads, so that a generator
that was trained with it opens here, and ours there. The network is :class:`course_lib.hypermod.HyperGenerator`, which
``course_lib.hypermod.released`` fills.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from course_lib.errors import CourseError
from course_lib.gans.stylegan import StyleGANConfig
from course_lib.released.renamed import Renamed
from course_lib.released.strict import reading_sizes
from course_lib.released.stylegan import infer_stylegan_config
from course_lib.released.stylegan_names import Names, equal_names, generator_names

__all__ = ["HyperSizes", "class_layout", "hyper_layout", "infer_hyper_sizes"]


@dataclass(frozen=True)
class HyperSizes:
    """Sizes of a hyper-modulated generator.

    Attributes:
        source: of the source generator.
        width: of the class vector.
        classes: rows of the class network's table; self-aligned files have one.
        layers: of the class network.
    """

    source: StyleGANConfig
    width: int = 64
    classes: int = 1
    layers: int = 4


def hyper_layout(sizes: HyperSizes) -> dict[str, Renamed]:
    """All tensors of a hyper-modulated generator by released name; ours are those of a ``HyperGenerator``."""
    counter: Iterator[int] = iter(range(2 * len(sizes.source.channels)))

    def convolution(released: str, ours: str, weight: tuple[int, ...], fused: bool) -> Names:
        index, outputs = next(counter), weight[1] if fused else weight[0]
        yield f"{released}.W", Renamed(f"convs.{index}.weight", weight)
        yield f"{released}.b", Renamed(f"convs.{index}.bias", (outputs,))
        kernel = (2 * weight[0] * weight[1], sizes.width)
        yield from equal_names(f"{released}.task.linear", f"heads.{index}.kernel", kernel)
        yield from equal_names(f"{released}.task_bias_beta.linear", f"heads.{index}.bias", (outputs, sizes.width))

    return dict(generator_names(sizes.source, "source.", "0.input", convolution))


def class_layout(sizes: HyperSizes) -> dict[str, Renamed]:
    """All tensors of the class network by released name; ours are those of a ``ClassNetwork``."""
    layout = {"task.0.weight_orig": Renamed("table", (sizes.classes, sizes.width))}
    for layer in range(sizes.layers):
        square = (sizes.width, sizes.width)
        layout |= equal_names(f"task.{2 * layer + 1}.linear", f"layers.{2 * layer}", square)
    return layout


def infer_hyper_sizes(generator: Mapping[str, Tensor], classes: Mapping[str, Tensor]) -> HyperSizes:
    """Reads the sizes off the tensors of generator and class network.

    Raises:
        CourseError: a tensor that tells a size is missing.
    """
    with reading_sizes("a class network"):
        count, width = classes["task.0.weight_orig"].shape
        layers = sum(name.endswith(".linear.bias") for name in classes)
    if not any(".task.linear." in name for name in generator):
        raise CourseError("this generator has no heads: it is a base StyleGAN, open it with load_stylegan.")
    return HyperSizes(infer_stylegan_config(generator), width, count, layers)
