"""One name for every data set: ``people``, ``kinds``, ``folder:PATH`` or a torchvision set such as ``cifar10:PATH``."""

from ..errors import CourseError
from .file_set import FileSet
from .image_set import ImageSet

__all__ = ["check_dataset", "find", "load"]


def _unknown(dataset: str) -> CourseError:
    from .torchvision_sets import SETS

    return CourseError(
        f"there is no data set {dataset!r}: use people, kinds, digits, folder:PATH, or one of "
        f"{', '.join(f'{known}:PATH' for known in SETS)}."
    )


def load(dataset: str = "people", size: int = 64, max_images: int | None = None) -> ImageSet:
    """Opens a data set by name; the parameter ``dataset`` of a notebook that has one ends here.

    Args:
        dataset: ``people`` or ``kinds``; ``digits``; ``folder:PATH`` (one sub-folder per class or domain);
            ``NAME:PATH`` with a set of :data:`course_lib.data.torchvision_sets.SETS` whose files lie under ``PATH``.
        size: side of the square images in pixels. Bundled pictures have 64; other sets are resized on loading.
        max_images: take at most so many, evenly spaced; sets from files only. Every image costs ``3 · size²`` bytes.

    Raises:
        CourseError: unknown name, missing files, or files that are no images.
    """
    from .avatars import load_kinds, load_people
    from .digits import load_digits
    from .folders import load_folder
    from .torchvision_sets import SETS, load_torchvision

    bundled = {"people": load_people, "kinds": load_kinds}
    name, _, path = dataset.partition(":")
    if name in bundled and not path:
        return bundled[name]()
    if name == "digits" and not path:
        return load_digits(size)
    if name == "folder" and path:
        return load_folder(path, size, max_images)
    if name in SETS and path:
        return load_torchvision(name, path, size, max_images)
    raise _unknown(dataset)


def find(dataset: str) -> FileSet:
    """Lists a data set of picture files without decoding it, for sets too large for memory.

    ``find("places365:PATH").part("train").stream(size=64, batch_size=32, seed=0)`` gives batches.

    Args:
        dataset: as for :func:`load`, except what is no picture files (bundled sets, CIFAR, MNIST and its relatives).

    Raises:
        CourseError: unknown name, missing files, or a set that is not stored as picture files.
    """
    from .folders import find_folder
    from .torchvision_sets import SETS, find_files

    name, _, path = dataset.partition(":")
    if name == "folder" and path:
        return find_folder(path)
    if name in SETS and path:
        return find_files(name, path)
    if dataset in ("people", "kinds"):
        raise CourseError(f"{dataset} are no picture files to stream: they are small, so `load` them.")
    raise _unknown(dataset)


def check_dataset(dataset: str) -> None:
    """Whether :func:`load` knows the name and finds the files in their layout; no picture is opened.

    Raises:
        CourseError: it does not.
    """
    from .folders import existing_folder
    from .torchvision_sets import ARRAY_SETS

    name, _, path = dataset.partition(":")
    if name in ARRAY_SETS and path:
        existing_folder(path)
    elif dataset not in ("people", "kinds", "digits"):
        find(dataset)
