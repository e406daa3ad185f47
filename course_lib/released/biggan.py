"""BigGAN-PyTorch's files and those of cGANTransfer, which descends from it: our networks carry the same names.

A transferred generator keeps the old tables and adds, in every batch norm, the maps from new classes to old ones."""

from collections.abc import Iterator
from dataclasses import replace

from ..bn_transfer import TransferGenerator
from ..gans.biggan import CIFAR32, IMAGENET128, BigGANConfig, Discriminator, Generator
from .reading import Entry, File, Kind, Layout, State, count_below, fill, layout_of, pick


def transferred_layout(config: BigGANConfig, new: int) -> Layout:
    """Tensors of a generator with ``new`` classes, in the order of the authors' files. ``config`` is that of the
    generator that was transferred: with an embedding the ImageNet variant, else the CIFAR one.

    Old tables and embeddings go to our ``source``, all else to ``target``, as in
    :class:`course_lib.bn_transfer.TransferGenerator`. ``pretrain_embedding_w`` of every layer is ``shared.weight``."""
    base = {name: entry.shape for name, entry in layout_of(lambda: Generator(config)).items()}
    layout: dict[str, Entry] = {}
    for name, shape in base.items():
        norm, _, rest = name.rpartition(".bn")
        norm = f"{norm}.bn{rest[0]}" if norm else ""
        if norm and rest[2:] == "stored_mean" and config.embedding is not None:
            layout[f"{norm}.pretrain_embedding_w"] = Entry("source.shared.weight", base["shared.weight"])
        old = name == "shared.weight" or (norm and rest[2:].startswith(("gain", "bias")))
        layout[name] = Entry(f"{'source' if old else 'target'}.{name}", shape)
        if norm and rest[2:] == ("bias.weight" if config.embedding is None else "bias.sv0"):
            layout |= dict(_propagation(norm, base[f"{norm}.stored_mean"][0], config, new))
    return layout


def _propagation(norm: str, channels: int, config: BigGANConfig, new: int) -> Iterator[tuple[str, Entry]]:
    """The new tensors of one batch norm."""
    spectral = config.embedding is not None
    parts = (  # released name, ours, shape of the weight; whether it has a bias, and a spectral vector
        ("comb_layer", "mixing", (config.classes, new), True, spectral),
        ("prev_knowledge", "table", (channels, config.classes), not spectral, spectral),
        *((("z_layer", "noise", (channels, config.chunk), True, True),) if spectral else ()),
        ("res", "residual", (channels, new), False, False),
    )
    for released, ours, shape, bias, normalised in parts:
        tensors = {"weight": shape}
        tensors |= {"bias": shape[:1]} if bias else {}
        tensors |= {"u0": (1, shape[0]), "sv0": (1,)} if normalised else {}
        for letter, side in (("g", "gain"), ("b", "bias")):
            for name, size in tensors.items():
                yield f"{norm}.{released}_{letter}.{name}", Entry(f"target.{norm}.{side}.{ours}.{name}", size)


def transferred_discriminator_layout(config: BigGANConfig, new: int) -> Layout:
    """Tensors of a discriminator with new classes: ``new_embed`` in the place of ``embed``."""
    return layout_of(lambda: Discriminator(replace(config, classes=new)), [(r"^embed\.", "new_embed.")])


_PUBLISHED = {"ImageNet": IMAGENET128, "CIFAR": CIFAR32}


def _blocks(state: State) -> tuple[tuple[int, ...], list[int]]:
    """Width of each block, and which blocks have attention."""
    blocks = range(count_below(state, "blocks."))
    attention = [k for k in blocks if f"blocks.{k}.1.gamma" in state]
    return tuple(len(state[f"blocks.{k}.0.conv1.weight"]) for k in blocks), attention


def _generator_sizes(state: State) -> BigGANConfig:
    """With a shared embedding its ε is that of ImageNet, else of CIFAR."""
    first, chunk = state["linear.weight"].shape
    widths, attention = _blocks(state)
    sizes = {"generator": (first // 16, *widths), "attention": tuple(8 * 2**k for k in attention)}
    if "shared.weight" not in state:
        return replace(CIFAR32, classes=len(state["blocks.0.0.bn1.gain.weight"]), noise=chunk, **sizes)
    classes, embedding = state["shared.weight"].shape
    sizes |= {"classes": classes, "embedding": embedding, "noise": chunk * (1 + len(widths))}
    if sizes["generator"] != IMAGENET128.generator:
        sizes["discriminator"] = sizes["generator"][::-1]
    return replace(IMAGENET128, **sizes)


def _discriminator_sizes(state: State) -> BigGANConfig:
    """Blocks with a shortcut of their own halve, as in both published ones; what only a generator has is filled in."""
    widths, attention = _blocks(state)
    halvings = sum(f"blocks.{k}.0.conv_sc.weight" in state for k in range(len(widths)))
    classes = len(state["new_embed.weight" if "new_embed.weight" in state else "embed.weight"])
    for known in _PUBLISHED.values():
        if known.discriminator == widths and known.halvings == halvings:
            return replace(known, classes=classes)
    ends = {"attention": tuple((2 << halvings) >> k for k in attention), "noise": 0, "classes": classes}
    generator = (widths[-1],) * (halvings + 1)
    return replace(IMAGENET128, generator=generator, discriminator=widths, halvings=halvings, **ends)


def _new_classes(state: State) -> int:
    if "new_embed.weight" in state:
        return len(state["new_embed.weight"])
    return state["blocks.0.0.bn1.res_g.weight"].shape[1]


def _say(config: BigGANConfig, state: State) -> str:
    return f"{config.size} pixels, {config.classes} classes"


_MARK = "blocks.0.0.bn1.comb_layer_g.weight"
_GENERATOR = Kind(
    "BigGAN generator",
    "output_layer.0.stored_mean",
    "course_lib.released.biggan.load_biggan",
    _generator_sizes,
    lambda config: layout_of(lambda: Generator(config)),
    published=_PUBLISHED,
    when=lambda state: _MARK not in state,
    say=_say,
)
_DISCRIMINATOR = Kind(
    "BigGAN discriminator",
    "embed.sv0",
    "course_lib.released.biggan.load_biggan_discriminator",
    _discriminator_sizes,
    lambda config: layout_of(lambda: Discriminator(config)),
    published=_PUBLISHED,
    say=_say,
)
_NEW_GENERATOR = Kind(
    "cGANTransfer generator",
    _MARK,
    "course_lib.released.biggan.load_released_transfer",
    lambda state: (_generator_sizes(state), _new_classes(state)),
    lambda sizes: transferred_layout(*sizes),
    say=lambda sizes, state: f"{_say(sizes[0], state)} and {sizes[1]} new ones",
)
_NEW_DISCRIMINATOR = Kind(
    "cGANTransfer discriminator",
    "new_embed.weight",
    "course_lib.released.biggan.load_released_transfer_discriminator",
    lambda state: (_discriminator_sizes(state), _new_classes(state)),
    lambda sizes: transferred_discriminator_layout(*sizes),
    say=lambda sizes, _: f"{sizes[1]} new classes",
)
KINDS = (_GENERATOR, _DISCRIMINATOR, _NEW_GENERATOR, _NEW_DISCRIMINATOR)


def load_biggan(path: File, config: BigGANConfig | str | None = None) -> Generator:
    """A generator, ``G_ema.pth`` (the better one) or ``G.pth``, in evaluation mode. ``config`` is what it must fit,
    "ImageNet" or "CIFAR"; None reads the sizes off it."""
    return _GENERATOR.load(path, config, Generator)


def load_biggan_discriminator(path: File, config: BigGANConfig | str | None = None) -> Discriminator:
    """As :func:`load_biggan`."""
    return _DISCRIMINATOR.load(path, config, Discriminator)


def _read_transferred(path: File, kind: Kind, config: BigGANConfig | None) -> tuple[BigGANConfig, int, State]:
    """Sizes of what was transferred, read off the file where ``config`` is None, number of new classes, and tensors."""
    state = pick(path, kind)
    if config is not None:
        kind = replace(kind, sizes=lambda state: (config, _new_classes(state)))
    (config, new), state, _ = kind.fit(state)
    return config, new, state


def load_released_transfer(
    path: File, config: BigGANConfig | None = None, base: Generator | None = None
) -> TransferGenerator:
    """A cGANTransfer generator, ``G*.pth`` or the same as ``.safetensors``, in evaluation mode. ``config`` is that of
    the generator that was transferred, by default of ``base``, or what the file says. ``base`` is that generator:
    without it old classes are drawn with running statistics and, after the second stage, convolutions that went on."""
    config, new, state = _read_transferred(path, _NEW_GENERATOR, config or (base.config if base is not None else None))
    published = "cifar" if config.embedding is None else "imagenet"
    network = TransferGenerator(base or Generator(config).eval(), new, published)
    fill(network, state, transferred_layout(config, new), "this transferred BigGAN")
    # With a base: the file's copy of the tables may have been trained along (they shared memory with what was trained).
    tensors = network.target.state_dict() if base is None else base.state_dict()
    kept = network.source.state_dict()
    network.source.load_state_dict(kept | {name: tensor for name, tensor in tensors.items() if name in kept})
    return network.eval()


def load_released_transfer_discriminator(path: File, config: BigGANConfig) -> Discriminator:
    """A cGANTransfer discriminator, ``D*.pth``, for the generator of ``config``, in evaluation mode."""
    config, new, state = _read_transferred(path, _NEW_DISCRIMINATOR, config)
    discriminator = Discriminator(replace(config, classes=new))
    fill(discriminator, state, transferred_discriminator_layout(config, new), "this transferred discriminator")
    return discriminator.eval()
