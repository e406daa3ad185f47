"""The well-known sets, on tiny copies in the format in which each is published."""

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.data import concatenate, load
from course_lib.data.published import LAYOUTS
from course_lib.errors import CourseError
from course_lib.fetch import DOWNLOADS


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, quality=95)


def pixel_rows(numbers: list[int]) -> np.ndarray:
    """CIFAR's rows: 1024 red values, then green, then blue, row by row. Pixel (0, 1) is marked."""
    rows = np.zeros((len(numbers), 3, 32, 32), np.uint8)
    rows[:, 0], rows[:, 2] = np.array(numbers)[:, None, None], 200
    rows[:, 1, 0, 1] = 255
    return rows.reshape(len(numbers), 3072)


def write(path: Path, content: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return md5(path)


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five training batches, a test batch and the names; torchvision is told their check sums."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    sums = []
    for k in range(6):
        name = f"data_batch_{k + 1}" if k < 5 else "test_batch"
        entry = {
            "batch_label": f"batch {k}",
            "labels": [k, 9 - k],
            "data": pixel_rows([10 * k, 10 * k + 1]),
            "filenames": ["a_s_000001.png", "b_s_000002.png"],
        }
        sums.append([name, write(folder / name, entry)])
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    meta = write(folder / "batches.meta", {"num_cases_per_batch": 2, "label_names": names, "num_vis": 3072})
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": meta})
    return tmp_path


def test_cifar10(cifar10):
    data = load(f"cifar10:{cifar10}", size=32)
    assert data.images.shape == (12, 3, 32, 32) and data.images.is_contiguous()
    assert data.images[:, 0, 5, 5].tolist() == [10 * k + i for k in range(6) for i in (0, 1)]
    assert data.images[:, 1, 0, 1].tolist() == [255] * 12 and data.images[:, 1, 1, 0].tolist() == [0] * 12
    assert data.labels["class"].tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 5, 4]
    assert data.classes["class"][3] == "cat" and data.classes["domain"] == ["cifar10"]
    assert len(data.part("train")) == 10 and data.part("test").labels["class"].tolist() == [5, 4]
    with pytest.raises(CourseError, match="no part 'val', only train, test"):
        data.part("val")


def test_cifar10_resized_limited_and_named_by_its_own_folder(cifar10):
    data = load(f"cifar10:{cifar10 / 'cifar-10-batches-py'}", size=64, max_images=6)
    assert data.images.shape == (6, 3, 64, 64) and data.images[:, 0, 40, 40].tolist() == [0, 10, 20, 30, 40, 50]
    assert data.split.tolist() == [0] * 5 + [2]
    half = load(f"cifar10:{cifar10}", size=16)
    assert (half.images[:, 2] == 200).all() and half.images[0, 1, 0, 0] in (63, 64)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_cifar_pickle_with_other_bytes_is_never_opened(cifar10, tmp_path, name):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    (cifar10 / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CourseError, match=r"cifar10 is missing or differs.*MD5.*cifar-10-python\.tar\.gz"):
        load(f"cifar10:{cifar10}", size=32)
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(Trap()))  # opened, it would have run
    assert (tmp_path / "executed").exists()


def test_cifar100(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "cifar-100-python"
    sums = []
    for name, count in (("train", 3), ("test", 2)):
        entry = {
            "filenames": [f"{i}.png" for i in range(count)],
            "batch_label": name,
            "fine_labels": list(range(97, 97 + count)),
            "coarse_labels": [0] * count,
            "data": pixel_rows(list(range(count))),
        }
        sums.append([[name, write(folder / name, entry)]])
    names = [f"kind {i}" for i in range(100)]
    meta = write(folder / "meta", {"fine_label_names": names, "coarse_label_names": ["things"]})
    monkeypatch.setattr(CIFAR100, "train_list", sums[0])
    monkeypatch.setattr(CIFAR100, "test_list", sums[1])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": meta})
    data = load(f"cifar100:{tmp_path}", size=32)
    assert data.labels["class"].tolist() == [97, 98, 99, 97, 98] and data.classes["class"] == names
    assert data.split.tolist() == [0, 0, 0, 2, 2]


MNIST_FAMILY = {"mnist": ("MNIST", "3"), "kmnist": ("KMNIST", "tsu"), "fashionmnist": ("FashionMNIST", "Dress")}


@pytest.fixture(params=MNIST_FAMILY)
def mnist(request, tmp_path: Path) -> tuple[str, Path, str]:
    """The published format: big-endian sizes behind a magic number, then plain bytes."""
    folder, third = MNIST_FAMILY[request.param]
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for part, labels in (("train", [3, 0, 9]), ("t10k", [1, 2])):
        pixels = np.zeros((len(labels), 28, 28), np.uint8)
        pixels[:, 5, 7] = [100 + label for label in labels]
        header = np.array([2051, len(labels), 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = np.array([2049, len(labels)], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + np.array(labels, np.uint8).tobytes())
    return request.param, raw, third


def test_mnist_and_its_relatives(mnist):
    name, raw, third = mnist
    data = load(f"{name}:{raw.parent.parent}", size=28)
    assert data.images.shape == (5, 3, 28, 28) and data.images[:, :, 5, 7].tolist() == [
        [value] * 3 for value in (103, 100, 109, 101, 102)
    ]
    assert data.labels["class"].tolist() == [3, 0, 9, 1, 2] and data.split.tolist() == [0, 0, 0, 2, 2]
    assert data.classes["class"][3] == third and len(data.where(**{"class": third})) == 1
    for place in (raw, raw.parent):
        assert torch.equal(load(f"{name}:{place}", size=28).images, data.images)
    assert load(f"{name}:{raw}", size=32, max_images=2).images.shape == (2, 3, 32, 32)


def test_mnist_with_a_lost_or_cut_file(mnist):
    name, raw, _ = mnist
    cut = raw / "train-images-idx3-ubyte"
    cut.write_bytes(cut.read_bytes()[:-10])
    with pytest.raises(CourseError, match=rf"{name} is missing or differs.*idx3-ubyte\.gz"):
        load(f"{name}:{raw}", size=28)
    cut.unlink()
    with pytest.raises(CourseError, match=rf"{name} is missing.*t10k-labels"):
        load(f"{name}:{raw}", size=28)


ATTRIBUTE_LINE = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
ATTRIBUTES = ATTRIBUTE_LINE.split()


def write_celeba(root: Path, monkeypatch: pytest.MonkeyPatch, parts: list[int]) -> Path:
    """CelebA in its true format, one picture for each entry of ``parts`` (0 train, 1 val, 2 test)."""
    from torchvision.datasets import CelebA

    folder, count = root / "celeba", len(parts)
    files = [f"{i + 1:06d}.jpg" for i in range(count)]
    for i, file in enumerate(files):
        # A coloured square of 160 pixels on black: what is left after the crop is one colour.
        pixels = np.zeros((218, 178, 3), np.uint8)
        pixels[29:189, 9:169] = (40 * i % 256, 90, 200)
        (folder / "img_align_celeba").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / file, quality=95, subsampling=0)
    attributes = [" ".join(f"{1 if (i + k) % 3 == 0 else -1:>2}" for k in range(40)) for i in range(count)]
    header = ATTRIBUTE_LINE + " \n"  # the published header ends with a space
    tables = {
        "list_attr_celeba.txt": f"{count}\n" + header,
        "list_bbox_celeba.txt": f"{count}\nimage_id x_1 y_1 width height\n",
        "list_landmarks_align_celeba.txt": f"{count}\n" + "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y "
        "leftmouth_x leftmouth_y rightmouth_x rightmouth_y\n",
        "list_eval_partition.txt": "",
        "identity_CelebA.txt": "",
    }
    for i, file in enumerate(files):
        tables["list_attr_celeba.txt"] += f"{file} {attributes[i]}\n"
        tables["list_bbox_celeba.txt"] += f"{file}    95  71 226 313\n"
        tables["list_landmarks_align_celeba.txt"] += f"{file} 69  109  106  113   77  142   73  152  108  154\n"
        tables["list_eval_partition.txt"] += f"{file} {parts[i]}\n"
        tables["identity_CelebA.txt"] += f"{file} {2880 + i}\n"
    for name, text in tables.items():
        (folder / name).write_text(text)
    sums = [(key, md5(folder / name) if name in tables else old, name) for key, old, name in CelebA.file_list]
    monkeypatch.setattr(CelebA, "file_list", sums)
    return root


@pytest.fixture
def celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_celeba(tmp_path, monkeypatch, [0, 0, 1, 1, 2])


def test_celeba(celeba):
    data = load(f"celeba:{celeba}", size=32)
    assert data.images.shape == (5, 3, 32, 32)
    assert list(data.classes) == ["class", "domain", *ATTRIBUTES] and data.classes["Smiling"] == ["no", "yes"]
    for k, name in enumerate(ATTRIBUTES):
        assert data.labels[name].tolist() == [int((i + k) % 3 == 0) for i in range(5)]
    assert data.split.tolist() == [0, 0, 1, 1, 2]
    expected = torch.tensor([[40 * i, 90, 200] for i in range(5)]).view(5, 3, 1, 1)
    assert (
        data.images.int() - expected
    ).abs().max() < 30  # the centre of JPEG files; black borders would differ by 200
    assert (data.images[:, :, 4:-4, 4:-4].int() - expected).abs().max() <= 3
    assert len(data.where(Smiling="yes")) == data.labels["Smiling"].sum()
    assert torch.equal(load(f"celeba:{celeba / 'celeba'}", size=32).images, data.images)


def test_celeba_with_a_changed_table_or_a_lost_picture(celeba):
    (celeba / "celeba/img_align_celeba/000003.jpg").unlink()
    with pytest.raises(CourseError, match=r"000003\.jpg is missing"):
        load(f"celeba:{celeba}", size=16)
    (celeba / "celeba/list_attr_celeba.txt").write_text("0\n\n")
    with pytest.raises(CourseError, match=r"differs.*img_align_celeba\.zip"):
        load(f"celeba:{celeba}", size=16)


def test_flowers102(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    folder = tmp_path / "flowers-102"
    for i in range(1, 7):
        picture(folder / "jpg" / f"image_{i:05d}.jpg", (40 * i, 10, 10), (25, 20))
    savemat(folder / "imagelabels.mat", {"labels": np.array([[77, 77, 1, 102, 1, 5]], np.uint8)})
    ids = {"trnid": [[6, 1]], "valid": [[3]], "tstid": [[2, 4, 5]]}
    savemat(folder / "setid.mat", {name: np.array(numbers, np.uint16) for name, numbers in ids.items()})
    checked = {"label": "imagelabels.mat", "setid": "setid.mat"}
    sums = Flowers102._file_dict | {key: (name, md5(folder / name)) for key, name in checked.items()}
    monkeypatch.setattr(Flowers102, "_file_dict", sums)
    savemat(folder / "setid.mat", {name: np.array(numbers + numbers, np.uint16) for name, numbers in ids.items()})
    with pytest.raises(CourseError, match=r"differs from the published.*setid\.mat"):
        load(f"flowers102:{tmp_path}", size=8)
    # More than one validation picture, as in the published file.
    ids["valid"] = [[3, 5]]
    savemat(folder / "setid.mat", {name: np.array(numbers, np.uint16) for name, numbers in ids.items()})
    monkeypatch.setattr(Flowers102, "_file_dict", sums | {"setid": ("setid.mat", md5(folder / "setid.mat"))})
    data = load(f"flowers102:{tmp_path}", size=8)
    assert data.labels["class"].tolist() == [4, 76, 0, 0, 76, 101, 0] and len(data.classes["class"]) == 102
    assert data.classes["class"][76] == Flowers102.classes[76] and data.split.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert (data.images[0, 0].int() - 240).abs().max() <= 3


def test_ffhq_flat_or_in_thousands(tmp_path):
    for folder, files in (
        (tmp_path / "flat", ["00000.png", "00007.png", "59999.png", "60000.png", "69999.png"]),
        (
            tmp_path / "deep",
            ["00000/00000.png", "00000/00007.png", "59000/59999.png", "60000/60000.png", "69000/69999.png"],
        ),
    ):
        for k, file in enumerate(files):
            picture(folder / file, (k, 0, 0))
        (folder / "LICENSE.txt").write_text("the licence of the set lies beside the pictures")
        data = load(f"ffhq:{folder}", size=8)
        assert data.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4] and data.split.tolist() == [0, 0, 0, 1, 1]
        assert data.classes["class"] == ["ffhq"]


@pytest.mark.parametrize(
    ("name", "kinds", "held_out"),
    [
        ("afhq", ["cat", "dog", "wild"], "val"),
        ("afhq", ["cat", "dog", "wild"], "test"),
        ("places365", ["airfield", "alley"], "val"),
    ],
)
def test_sets_with_a_folder_for_every_class(tmp_path, name, kinds, held_out):
    for k, kind in enumerate(kinds):
        picture(tmp_path / "train" / kind / "1.jpg", (50 * k, 0, 0))
        picture(tmp_path / "train" / kind / "2.jpg", (50 * k, 0, 0))
        picture(tmp_path / held_out / kind / "1.jpg", (50 * k, 0, 0))
    data = load(f"{name}:{tmp_path}", size=8)
    assert data.name == name and data.classes["class"] == kinds
    assert len(data.part("train")) == 2 * len(kinds)
    assert data.part(held_out).labels["class"].tolist() == list(range(len(kinds)))


def test_celebahq_arrays(tmp_path):
    for i in range(3):
        array = np.zeros((1, 3, 1024, 1024), np.uint8)
        array[0, 1] = 60 * i
        np.save(tmp_path / f"imgHQ{i:05d}.npy", array)
    (tmp_path / "image_list.txt").write_text("idx orig_idx orig_file\n")
    data = load(f"celebahq:{tmp_path}", size=16)
    assert data.images.shape == (3, 3, 16, 16) and data.images[:, 1, 3, 3].tolist() == [0, 60, 120]
    with pytest.raises(CourseError, match="no fixed split"):
        data.part("train")


def write_coco(root: Path, year: str, counts: dict[str, int], size: tuple[int, int]) -> Path:
    """COCO captions in their true format: part → number of pictures of ``size``."""
    for part, count in counts.items():
        images, annotations = [], []
        for i in range(count):
            number = 100 + 7 * i
            file = f"{number:012d}.jpg" if year == "2017" else f"COCO_{part}2014_{number:012d}.jpg"
            picture(root / f"{part}{year}" / file, (number % 256, 0, 0), size)
            images.insert(0, {"license": 3, "file_name": file, "height": 18, "width": 24, "id": number})
            for k in range(5):
                caption = f"A picture number {number}, said in way {k}.\n"
                annotations.insert(0, {"image_id": number, "id": 10 * number + k, "caption": caption})
        images.append({"file_name": "never_captioned.jpg", "id": 5, "height": 1, "width": 1, "license": 1})
        table = {"info": {"year": int(year)}, "licenses": [], "images": images, "annotations": annotations}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"captions_{part}{year}.json").write_text(json.dumps(table))
        (root / "annotations" / f"instances_{part}{year}.json").write_text("{}")
    return root


@pytest.fixture(params=["2014", "2017"])
def coco(request, tmp_path: Path) -> Path:
    return write_coco(tmp_path, request.param, {"train": 3, "val": 2}, (24, 18))


def test_coco_captions(coco):
    data = load(f"coco:{coco}", size=8)
    assert data.split.tolist() == [0, 0, 0, 1, 1]
    assert (data.images[:, 0, 4, 4].int() - torch.tensor([100, 107, 114, 100, 107])).abs().max() <= 3
    assert all(len(captions) == 5 for captions in data.captions)
    assert data.captions[1][3] == "A picture number 107, said in way 3."
    assert data.part("val").captions[0][0] == "A picture number 100, said in way 0."


def test_coco_with_one_part_only_and_without_any(coco):
    for folder in coco.glob("train*"):
        shutil.rmtree(folder)
    assert load(f"coco:{coco}", size=8).split.tolist() == [1, 1]
    for folder in coco.glob("val*"):
        shutil.rmtree(folder)
    with pytest.raises(CourseError, match=r"coco was not found.*captions_val2017"):
        load(f"coco:{coco}", size=8)


def test_coco_file_that_is_something_else(coco):
    for table in (coco / "annotations").glob("captions_train*.json"):
        table.write_text(json.dumps({"images": [], "annotations": [{"id": 1, "category_id": 3}]}))
    with pytest.raises(CourseError, match=r"captions_train.*is not a COCO caption file"):
        load(f"coco:{coco}", size=8)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_set_is_one_line_on_where_to_get_it(tmp_path, name):
    with pytest.raises(CourseError, match="there is no folder"):
        load(f"{name}:{tmp_path / 'nowhere'}")
    with pytest.raises(CourseError, match=name) as caught:
        load(f"{name}:{tmp_path}")
    said, source = str(caught.value), DOWNLOADS[name]
    assert f"`course fetch {name}`" in said and source.page in said and LAYOUTS[name] in said and "\n" not in said
    assert all(Path(file.name).name in said for file in source.files)
    assert "download=True" not in str(caught.value)


def test_nothing_is_ever_downloaded(tmp_path, monkeypatch):
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("a data set tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in LAYOUTS:
        with pytest.raises(CourseError):
            load(f"{name}:{tmp_path}", 8)
    assert list(tmp_path.iterdir()) == []


def test_two_named_sets_join_with_their_domains(tmp_path):
    picture(tmp_path / "f" / "00001.png", (1, 2, 3))
    np.save(tmp_path / "imgHQ00000.npy", np.zeros((1, 3, 16, 16), np.uint8))
    joined = concatenate([load(f"celebahq:{tmp_path}", 8), load(f"ffhq:{tmp_path / 'f'}", 8)])
    assert joined.classes["domain"] == ["celebahq", "ffhq"] and joined.labels["domain"].tolist() == [0, 1]
