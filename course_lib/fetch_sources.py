"""What ``course fetch`` knows: addresses, hashes and terms, as the authors' and publishers' own pages name them."""

from dataclasses import dataclass, field

__all__ = ["SOURCES", "RemoteFile", "Source"]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a source.

    Attributes:
        name: under which it is kept, with sub-folders.
        url: where it is, the empty string if a browser is needed (the source's page says how).
        hash: published one, as ``md5:…`` or ``sha256:…``; without it the SHA-256 of the first download is recorded.
        unpack: a ``.zip``, ``.tar``, ``.tar.gz``, ``.tgz`` or ``.gz`` that is unpacked beside its place, then removed.
    """

    name: str
    url: str
    hash: str | None = None
    unpack: bool = False


@dataclass(frozen=True)
class Source:
    """What can be fetched by one name.

    Attributes:
        about: what it is, and its size where the publishers say it.
        licence: terms as the publishers state them.
        page: where the address comes from, and where to look when it is gone.
        use: what to do next; ``{folder}`` is replaced.
    """

    about: str
    licence: str
    page: str
    use: str
    files: tuple[RemoteFile, ...] = field(default=())


_NO_LICENCE = "none stated by the authors: ask them before you use it for more than study"
_NET2NET = "https://github.com/CompVis/net2net"
_ALAE = "https://github.com/podgorskiy/ALAE"
_STYLEGAN = "https://github.com/rosinality/style-based-gan-pytorch"
_RELEASED = "course released {folder}/"
_OPENS = "every notebook that `course list` shows with a parameter dataset takes -p dataset="
_HEIBOX = "https://heibox.uni-heidelberg.de/f/{}/?dl=1"


def _drive(file_id: str) -> str:
    """Direct address of a large public file of Google Drive."""
    return f"https://drive.usercontent.google.com/download?id={file_id}&export=download&confirm=t"


def _net2net(about: str, name: str, url: str, md5: str | None = None) -> Source:
    one = RemoteFile(name, url, md5 and f"md5:{md5}")
    return Source(about, _NO_LICENCE, _NET2NET, _RELEASED + name, (one,))


def _alae(about: str, path: str) -> Source:
    one = RemoteFile(path.replace("/", "-"), f"https://alaeweights.s3.us-east-2.amazonaws.com/{path}")
    return Source(about, "code Apache-2.0; none stated for the weights", _ALAE, _RELEASED + one.name, (one,))


def _stylegan(size: int, file_id: str) -> Source:
    name = f"stylegan-{size}px.model"
    return Source(
        f"StyleGAN of faces at {size} px, the source that Hyper-Modulation starts from",
        "code: see the page; none stated for the weights; trained on FFHQ (CC BY-NC-SA 4.0)",
        _STYLEGAN,
        _RELEASED + name,
        (RemoteFile(name, _drive(file_id)),),
    )


def _idx(folder: str, prefix: str, hashes: str) -> tuple[RemoteFile, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        RemoteFile(f"{folder}/raw/{name}-ubyte.gz", f"{prefix}{name}-ubyte.gz", f"md5:{md5}", unpack=True)
        for name, md5 in zip(names, hashes.split(), strict=True)
    )


def _celeba() -> tuple[RemoteFile, ...]:
    table = {
        "img_align_celeba.zip": ("0B7EVK8r0v71pZjFTYXZWM3FlRnM", "00d2c5bc6d35e252742224ab0c1e8fcb"),
        "list_attr_celeba.txt": ("0B7EVK8r0v71pblRyaVFSWGxPY0U", "75e246fa4810816ffd6ee81facbd244c"),
        "identity_CelebA.txt": ("1_ee_0u7vcNLOfNLegJRHmolfH5ICW-XS", "32bd1bd63d3c78cd57e08160ec5ed1e2"),
        "list_bbox_celeba.txt": ("0B7EVK8r0v71pbThiMVRxWXZ4dU0", "00566efa6fedff7a56946cd1c10f1c16"),
        "list_landmarks_align_celeba.txt": ("0B7EVK8r0v71pd0FJY3Blby1HUTQ", "cc24ecafdb5b50baae59b03474781f8c"),
        "list_eval_partition.txt": ("0B7EVK8r0v71pY0NSMzRuSXJEVkk", "d32c9cbf5e040fd4025c592c306e6668"),
    }
    return tuple(
        RemoteFile(f"celeba/{name}", _drive(file_id), f"md5:{md5}", unpack=name.endswith(".zip"))
        for name, (file_id, md5) in table.items()
    )


_FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_COCO = "http://images.cocodataset.org/"

SOURCES: dict[str, Source] = {
    # --- released weights: Net2Net
    "net2net-biggan-128": _net2net(
        "BigGAN generator, ImageNet at 128 px",
        "biggan-128.pth",
        _HEIBOX.format("56ed256209fd40968864"),
        "a2148cf64807444113fac5eede060d28",
    ),
    "net2net-biggan-256": _net2net(
        "BigGAN generator, ImageNet at 256 px, the target of text to image",
        "biggan-256.pth",
        _HEIBOX.format("437b501944874bcc92a4"),
        "e23db3caa34ac4c4ae922a75258dcb8d",
    ),
    "net2net-dequantiser": _net2net(
        "dequantiser of BigGAN's class embeddings",
        "dequantvae-20000.ckpt",
        _HEIBOX.format("e7c8959b50a64f40826e"),
        "5c2a6fe765142cbdd9f10f15d65a68b6",
    ),
    "net2net-captioner": _net2net(
        "captioner that makes the training pairs of text to image",
        "captioning_model_pt16.ckpt",
        _HEIBOX.format("b03aae864a0f42f1a2c3"),
        "db185e0f6791e60d27c00de0f40c376c",
    ),
    "net2net-faces-32": _net2net(
        "autoencoder of faces at 32 px, the source of super-resolution",
        "faces32.ckpt",
        _HEIBOX.format("b0b103af8406467abe48"),
    ),
    "net2net-faces-256": _net2net(
        "autoencoder of faces at 256 px (FFHQ, CelebA-HQ, CelebA)", "faces256.ckpt", "https://k00.fr/94lw2vlg"
    ),
    "net2net-anime": _net2net(
        "autoencoder of anime and photographs at 256 px", "anime.ckpt", _HEIBOX.format("315c628c8b0e40238132")
    ),
    "net2net-portraits": _net2net(
        "autoencoder of oil portraits and photographs at 256 px",
        "portraits.ckpt",
        _HEIBOX.format("4f9449418a2e4025bb5f"),
    ),
    "net2net-coco": _net2net("autoencoder of COCO at 256 px", "coco256.ckpt", "https://k00.fr/fbti4058"),
    "net2net-demo": Source(
        "the three translators of the demo (a folder each, with their settings)",
        _NO_LICENCE,
        _NET2NET + "#ml4creativity-demo",
        "course released {folder}/NAME.ckpt",
    ),
    # --- released weights: Hyper-Modulation, cGANTransfer, Mind2Mind start from these
    "stylegan-ffhq-256": _stylegan(256, "1QlXFPIOFzsJyjZ1AtfpnVhqW4Z0r8GLZ"),
    "stylegan-ffhq-512": _stylegan(512, "13f0tXPX0EfHdac0zcudfC8osD4OdsxZQ"),
    "stylegan-ffhq-1024": _stylegan(1024, "1NJMqp2AN1de8cPXTBzYC7mX2wXF9ox-i"),
    "biggan-imagenet-128": Source(
        "BigGAN of 1,000 classes with critic and optimisers, the source of cGANTransfer",
        "code MIT; none stated for the weights",
        "https://github.com/ajbrock/BigGAN-PyTorch#pretrained-models",
        _RELEASED + "138k/G.pth",
        (
            RemoteFile(
                "BigGAN_ch96_bs256x8_138k.zip",
                _drive("1nAle7FCVFZdix2--ks0r5JBkFnKw8ctW"),
                unpack=True,
            ),
        ),
    ),
    "alae-ffhq": _alae("ALAE of faces at 1024 px, the source of Mind2Mind", "ffhq/model_submitted.pth"),
    "alae-ffhq-demo": _alae("ALAE of faces at 1024 px, as its demo shows it", "ffhq/model_157.pth"),
    "alae-celeba": _alae("ALAE of faces at 128 px", "celeba/model_final.pth"),
    "alae-celebahq": _alae("ALAE of faces at 256 px", "celeba-hq256/model_262r.pth"),
    "alae-bedroom": _alae("ALAE of bedrooms at 256 px", "bedroom/model_final.pth"),
    # --- data sets
    "cifar10": Source(
        "60,000 pictures of 10 kinds of things, 32 px; 163 MB",
        "none stated; cite the technical report",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        _OPENS + "cifar10:{folder}",
        (
            RemoteFile(
                "cifar-10-python.tar.gz",
                _CIFAR + "cifar-10-python.tar.gz",
                "md5:c58f30108f718f92721af3b95e74349a",
                unpack=True,
            ),
        ),
    ),
    "cifar100": Source(
        "60,000 pictures of 100 kinds of things, 32 px; 161 MB",
        "none stated; cite the technical report",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        _OPENS + "cifar100:{folder}",
        (
            RemoteFile(
                "cifar-100-python.tar.gz",
                _CIFAR + "cifar-100-python.tar.gz",
                "md5:eb9058c3a382ffc7106e4002c42a8d85",
                unpack=True,
            ),
        ),
    ),
    "mnist": Source(
        "70,000 handwritten digits, 28 px; 11 MB",
        "CC BY-SA 3.0 (Y. LeCun, C. Cortes)",
        "https://github.com/pytorch/vision (torchvision.datasets.MNIST)",
        _OPENS + "mnist:{folder}",
        _idx(
            "MNIST",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432 "
            "9fb629c4189551a2d022fa330f9573f3 ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "kmnist": Source(
        "70,000 cursive Japanese characters, 28 px; 20 MB",
        "CC BY-SA 4.0 (CODH)",
        "https://github.com/rois-codh/kmnist",
        _OPENS + "kmnist:{folder}",
        _idx(
            "KMNIST",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "bdb82020997e1d708af4cf47b453dcf7 e144d726b3acfaa3e44228e80efcd344 "
            "5c965bf0a639b31b8f53240b1b52f4d7 7320c461ea6c1c855c0b718fb2a4b134",
        ),
    ),
    "fashionmnist": Source(
        "70,000 pieces of clothing, 28 px; 30 MB",
        "MIT (Zalando)",
        "https://github.com/zalandoresearch/fashion-mnist",
        _OPENS + "fashionmnist:{folder}",
        _idx(
            "FashionMNIST",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe "
            "bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "celeba": Source(
        "202,599 aligned faces with 40 attributes; 1.4 GB",
        "non-commercial research only; read the agreement on the page",
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        _OPENS + "celeba:{folder}",
        _celeba(),
    ),
    "flowers102": Source(
        "8,189 flowers of 102 species; 330 MB",
        "none stated; cite the paper",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        _OPENS + "flowers102:{folder}",
        (
            RemoteFile(
                "flowers-102/102flowers.tgz",
                _FLOWERS + "102flowers.tgz",
                "md5:52808999861908f626f3c1f4e79d11fa",
                unpack=True,
            ),
            RemoteFile(
                "flowers-102/imagelabels.mat", _FLOWERS + "imagelabels.mat", "md5:e0620be6f572b9609742df49c70aed4d"
            ),
            RemoteFile("flowers-102/setid.mat", _FLOWERS + "setid.mat", "md5:a5357ecc9cb78c4bef273ce3793fc85c"),
        ),
    ),
    "afhq": Source(
        "some 16,000 faces of cats, dogs and wild animals, 512 px",
        "CC BY-NC 4.0 (NAVER)",
        "https://github.com/clovaai/stargan-v2",
        _OPENS + "afhq:{folder}/afhq",
        (RemoteFile("afhq.zip", "https://www.dropbox.com/s/t9l9o3vsx2jai3z/afhq.zip?dl=1", unpack=True),),
    ),
    "portraits": Source(
        "18,000 oil portraits, cut from WikiArt by the authors of Net2Net",
        _NO_LICENCE,
        _NET2NET + "#datasets",
        "put them into one sub-folder of PATH and photographs into another, then course run 05 -p dataset=folder:PATH",
        (RemoteFile("portraits.zip", _HEIBOX.format("4f35bdc16eea4158aa47"), unpack=True),),
    ),
    "coco": Source(
        "some 123,000 scenes with five captions each; 19 GB",
        "captions CC BY 4.0; pictures under their makers' terms on Flickr",
        "https://cocodataset.org/#download",
        _OPENS + "coco:{folder}",
        tuple(
            RemoteFile(f"{name}.zip", f"{_COCO}{kind}/{name}.zip", unpack=True)
            for kind, name in (("annotations", "annotations_trainval2017"), ("zips", "val2017"), ("zips", "train2017"))
        ),
    ),
    "places365": Source(
        "1.8 million scenes of 365 kinds",
        "research and education only; read the terms on the page",
        "http://places2.csail.mit.edu/download.html",
        _OPENS + "places365:{folder}/places365_standard",
        (
            RemoteFile(
                "places365standard_easyformat.tar",
                "http://data.csail.mit.edu/places/places365/places365standard_easyformat.tar",
                unpack=True,
            ),
        ),
    ),
    "ffhq": Source(
        "70,000 aligned faces at 128 or 1024 px",
        "CC BY-NC-SA 4.0 (NVIDIA); each picture has its own, see the page",
        "https://github.com/NVlabs/ffhq-dataset (its script downloads, and resumes)",
        _OPENS + "ffhq:{folder}",
    ),
    "celebahq": Source(
        "30,000 faces at 1024 px, computed from CelebA",
        "as CelebA: non-commercial research only",
        "https://github.com/tkarras/progressive_growing_of_gans (section CelebA-HQ)",
        _OPENS + "celebahq:{folder}",
    ),
}
"""Names that ``course fetch`` knows. A source without files has to be fetched in a browser or with its own script."""
