"""One name for every data set: ``emoji``, ``folder:PATH`` or a torchvision set such as ``cifar10:PATH``."""

from ..errors import CourseError
from .image_set import ImageSet

__all__ = ["load"]


def load(dataset: str = "emoji", size: int = 64) -> ImageSet:
    """Opens a data set by name; the parameter ``dataset`` of every notebook ends here.

    Args:
        dataset: ``emoji``; ``folder:PATH`` (one sub-folder per class or domain); ``NAME:PATH`` with a torchvision set
            of :data:`course_lib.data.torchvision_sets.SETS` whose files lie under ``PATH``.
        size: side of the square images in pixels. The emoji are stored at 64; other sets are resized on loading.

    Raises:
        CourseError: unknown name, missing files, or files that are no images.
    """
    from .emoji import load_emoji
    from .folders import load_folder
    from .torchvision_sets import SETS, load_torchvision

    name, _, path = dataset.partition(":")
    if name == "emoji" and not path:
        return load_emoji()
    if name == "folder" and path:
        return load_folder(path, size)
    if name in SETS and path:
        return load_torchvision(name, path, size)
    raise CourseError(
        f"there is no data set {dataset!r}: use emoji, folder:PATH, or one of "
        f"{', '.join(f'{known}:PATH' for known in SETS)}."
    )
