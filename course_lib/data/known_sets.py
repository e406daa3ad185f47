"""Well-known data sets by name: what they are, where their files come from, and how they have to lie."""

from collections.abc import Callable
from pathlib import Path

from ..errors import CourseError

__all__ = ["SETS", "SOURCES", "missing", "open_torchvision"]

SETS = {
    "cifar10": "60,000 pictures of 10 kinds of things, 32 px; train and test",
    "cifar100": "60,000 pictures of 100 kinds of things, 32 px; train and test",
    "mnist": "70,000 handwritten digits, 28 px, grey; train and test",
    "kmnist": "70,000 cursive Japanese characters of 10 kinds, 28 px, grey; train and test",
    "fashionmnist": "70,000 pieces of clothing of 10 kinds, 28 px, grey; train and test",
    "celeba": "202,599 aligned faces with 40 yes/no attributes; train, val and test",
    "flowers102": "8,189 flowers of 102 species; train, val and test",
    "ffhq": "70,000 aligned faces; the first 60,000 train, the others val",
    "afhq": "some 16,000 faces of cats, dogs and wild animals; train and val or test",
    "celebahq": "30,000 faces as .npy arrays at 1024 px; no fixed split",
    "places365": "1.8 million scenes of 365 kinds; train and val",
    "coco": "some 123,000 everyday scenes with five captions each; train and val",
}
_IDX = "raw/train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
SOURCES = {
    "cifar10": ("cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html", "cifar-10-batches-py/"),
    "cifar100": ("cifar-100-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html", "cifar-100-python/"),
    "mnist": ("the four idx-ubyte.gz files from ossci-datasets.s3.amazonaws.com/mnist", f"MNIST/{_IDX}"),
    "kmnist": ("the four idx-ubyte.gz files from github.com/rois-codh/kmnist", f"KMNIST/{_IDX}"),
    "fashionmnist": (
        "the four idx-ubyte.gz files from github.com/zalandoresearch/fashion-mnist",
        f"FashionMNIST/{_IDX}",
    ),
    "celeba": (
        "img_align_celeba.zip, four list_*.txt and identity_CelebA.txt from mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        "celeba/img_align_celeba/*.jpg and celeba/*.txt",
    ),
    "flowers102": (
        "102flowers.tgz, imagelabels.mat and setid.mat from www.robots.ox.ac.uk/~vgg/data/flowers/102",
        "flowers-102/jpg/*.jpg, flowers-102/imagelabels.mat and flowers-102/setid.mat",
    ),
    "ffhq": ("thumbnails128x128 or images1024x1024 from github.com/NVlabs/ffhq-dataset", "00000.png … 69999.png"),
    "afhq": (
        "afhq.zip or afhq_v2.zip from github.com/clovaai/stargan-v2",
        "train/cat/*, train/dog/*, train/wild/* and val/*",
    ),
    "celebahq": (
        "the .npy files that github.com/tkarras/progressive_growing_of_gans describes (section CelebA-HQ)",
        "imgHQ00000.npy … imgHQ29999.npy",
    ),
    "places365": (
        "places365standard_easyformat.tar from places2.csail.mit.edu/download.html",
        "train/airfield/*.jpg … and val/airfield/*.jpg …",
    ),
    "coco": (
        "train2017.zip, val2017.zip and annotations_trainval2017.zip from cocodataset.org/#download",
        "annotations/captions_val2017.json with val2017/*.jpg (and the same for train2017)",
    ),
}
"""What to fetch, and what has to lie under the given folder afterwards."""


def missing(name: str, path: Path, why: str = "was not found") -> CourseError:
    """The error that says where to get a set."""
    source, layout = SOURCES[name]
    return CourseError(f"{name} {why} under {path}: fetch {source} and unpack it so that {path} has {layout}.")


def open_torchvision(name: str, path: Path, opened: Callable[[], object]) -> object:
    """Opens a torchvision set; its own error would advise a download that this course never does.

    Raises:
        CourseError: files are missing, or are not what torchvision expects.
    """
    try:
        return opened()
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError) as error:
        raise missing(name, path, "is missing or differs from the published files (MD5)") from error
