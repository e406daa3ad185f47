"""BigGAN-PyTorch's files and those of cGANTransfer, which descends from it: our networks carry the same names.

A transferred generator keeps the old tables and adds, in every batch norm, the maps from new classes to old ones.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..bn_transfer.propagation import TransferGenerator
from ..gans.biggan import CIFAR32, IMAGENET128, BigGANConfig, Discriminator, Generator
from .reading import State
from .strict import Entry, Kind, Layout, count_below, fill, layout_of, pick, reading_sizes, register

__all__ = ["load_biggan", "load_biggan_discriminator", "load_released_transfer", "transferred_discriminator_layout"]
__all__ += ["load_released_transfer_discriminator", "transferred_layout"]

_PARTS = {"comb_layer": "mixing", "prev_knowledge": "table", "z_layer": "noise", "res": "residual"}
_SIDES = {"g": "gain", "b": "bias"}


def _layout(network: type, config: BigGANConfig) -> Layout:
    return layout_of(lambda: network(config))


def transferred_layout(config: BigGANConfig, new: int) -> Layout:
    """Tensors of a generator with new classes, in the order of the authors' files.

    Old tables and embeddings go to our ``source``, all else to ``target``, as
    :class:`course_lib.bn_transfer.TransferGenerator` names them. ``pretrain_embedding_w`` of every layer is one tensor
    with ``shared.weight``.

    ``config`` is that of the generator that was transferred; with an embedding it is the ImageNet variant, else the
    CIFAR one. ``new`` is the number of new classes.
    """
    base = {name: entry.shape for name, entry in _layout(Generator, config).items()}
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
    """The new tensors of one batch norm: weight, bias and spectral vector of each part, for gain and bias in turn."""
    spectral = config.embedding is not None
    shapes = {
        "comb_layer": ((config.classes, new), True, spectral),
        "prev_knowledge": ((channels, config.classes), not spectral, spectral),
        "z_layer": ((channels, config.chunk), True, True) if spectral else None,
        "res": ((channels, new), False, False),
    }
    for part, entry in shapes.items():
        if entry is None:
            continue
        shape, bias, normalised = entry
        tensors = {"weight": shape}
        tensors |= {"bias": shape[:1]} if bias else {}
        tensors |= {"u0": (1, shape[0]), "sv0": (1,)} if normalised else {}
        for side, ours in _SIDES.items():
            for name, size in tensors.items():
                yield f"{norm}.{part}_{side}.{name}", Entry(f"target.{norm}.{ours}.{_PARTS[part]}.{name}", size)


def transferred_discriminator_layout(config: BigGANConfig, new: int) -> Layout:
    """Tensors of a discriminator with new classes: ``new_embed`` in the place of ``embed``."""
    layout = _layout(Discriminator, replace(config, classes=new))
    return {name.replace("embed.", "new_embed."): entry for name, entry in layout.items()}


# --- sizes ----------------------------------------


def _blocks(state: State) -> range:
    return range(count_below(state, "blocks."))


def _generator_sizes(state: State) -> BigGANConfig:
    """Of a generator, with or without new classes; with a shared embedding its ε is that of ImageNet, else of CIFAR."""
    first = len(state["linear.weight"]) // 16
    widths = (first, *(len(state[f"blocks.{k}.0.conv1.weight"]) for k in _blocks(state)))
    chunk, attention = (
        state["linear.weight"].shape[1],
        tuple(8 * 2**k for k in _blocks(state) if f"blocks.{k}.1.gamma" in state),
    )
    if "shared.weight" not in state:
        classes = len(state["blocks.0.0.bn1.gain.weight"])
        return replace(CIFAR32, classes=classes, generator=widths, noise=chunk, attention=attention)
    classes, embedding = state["shared.weight"].shape
    noise = chunk * len(widths)
    base = IMAGENET128 if widths == IMAGENET128.generator else replace(IMAGENET128, discriminator=widths[::-1])
    return replace(base, classes=classes, generator=widths, noise=noise, embedding=embedding, attention=attention)


def _discriminator_sizes(state: State) -> BigGANConfig:
    """Blocks with a shortcut of their own halve, as in both published ones; what only a generator has is filled in."""
    widths = tuple(len(state[f"blocks.{k}.0.conv1.weight"]) for k in _blocks(state))
    halvings = sum(f"blocks.{k}.0.conv_sc.weight" in state for k in _blocks(state))
    classes = len(state["new_embed.weight" if "new_embed.weight" in state else "embed.weight"])
    base = next((c for c in _SIZES.values() if c.discriminator == widths and c.halvings == halvings), None)
    if base is None:
        size = 4 * 2**halvings
        attention = tuple(size >> (k + 1) for k in _blocks(state) if f"blocks.{k}.1.gamma" in state)
        ends = {"halvings": halvings, "attention": attention, "noise": 0}
        base = replace(IMAGENET128, generator=(widths[-1],) * (halvings + 1), discriminator=widths, **ends)
    return replace(base, classes=classes)


def _new_classes(state: State) -> int:
    mark = "new_embed.weight" if "new_embed.weight" in state else "blocks.0.0.bn1.res_g.weight"
    return len(state[mark]) if mark == "new_embed.weight" else state[mark].shape[1]


_SIZES = {"ImageNet": IMAGENET128, "CIFAR": CIFAR32}
_MARK = "blocks.0.0.bn1.comb_layer_g.weight"


def _say(config: BigGANConfig, state: State) -> str:
    return f"{config.size} pixels, {config.classes} classes"


_GENERATOR = Kind(
    "BigGAN generator",
    "output_layer.0.stored_mean",
    "course_lib.released.biggan.load_biggan",
    _generator_sizes,
    lambda config: _layout(Generator, config),
    published=_SIZES,
    when=lambda state: _MARK not in state,
    say=_say,
)
_DISCRIMINATOR = Kind(
    "BigGAN discriminator",
    "embed.sv0",
    "course_lib.released.biggan.load_biggan_discriminator",
    _discriminator_sizes,
    lambda config: _layout(Discriminator, config),
    published=_SIZES,
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
register(_GENERATOR, _DISCRIMINATOR, _NEW_GENERATOR, _NEW_DISCRIMINATOR)


# --- loading ----------------------------------------


def load_biggan(path: str | Path, config: BigGANConfig | str | None = None) -> Generator:
    """A generator of BigGAN-PyTorch, in evaluation mode.

    Args:
        path: ``G_ema.pth`` (its average, the better one) or ``G.pth``.
        config: what it must fit, "ImageNet" or "CIFAR"; None reads the sizes off it.
    """
    return _GENERATOR.load(path, config, Generator)


def load_biggan_discriminator(path: str | Path, config: BigGANConfig | str | None = None) -> Discriminator:
    """A discriminator of BigGAN-PyTorch, in evaluation mode; as :func:`load_biggan`."""
    return _DISCRIMINATOR.load(path, config, Discriminator)


def _read_transferred(path: str | Path, kind: Kind, config: BigGANConfig | None) -> tuple[BigGANConfig, int, State]:
    """Sizes of what was transferred, read off the file where ``config`` is None, number of new classes, and tensors."""
    state = pick(path, kind)
    with reading_sizes(f"a {kind.name}"):
        sizes = None if config is None else (config, _new_classes(state))
    (config, new), state, _ = kind.fit(state, sizes)
    return config, new, state


def load_released_transfer(
    path: str | Path, config: BigGANConfig | None = None, base: Generator | None = None
) -> TransferGenerator:
    """A cGANTransfer generator, in evaluation mode.

    Args:
        path: ``G*.pth`` or the same as ``.safetensors``.
        config: of the generator that was transferred; by default that of ``base``, or what the file says.
        base: that generator. The file keeps its tables, but its running statistics went on, and after the second stage
            its convolutions as well: without ``base`` old classes are drawn with those, and are no longer what they
            were.
    """
    config, new, state = _read_transferred(path, _NEW_GENERATOR, config or (base.config if base is not None else None))
    network = TransferGenerator(
        base or Generator(config).eval(), new, "cifar" if config.embedding is None else "imagenet"
    )
    fill(network, state, transferred_layout(config, new), "this transferred BigGAN")
    # With a base: the file's copy of the tables may have been trained along (they shared memory with what was trained).
    tensors = network.target.state_dict() if base is None else base.state_dict()
    kept = network.source.state_dict()
    network.source.load_state_dict(kept | {name: tensor for name, tensor in tensors.items() if name in kept})
    return network.eval()


def load_released_transfer_discriminator(path: str | Path, config: BigGANConfig) -> Discriminator:
    """A cGANTransfer discriminator, ``D*.pth``, for the generator of ``config``, in evaluation mode."""
    config, new, state = _read_transferred(path, _NEW_DISCRIMINATOR, config)
    discriminator = Discriminator(replace(config, classes=new))
    fill(discriminator, state, transferred_discriminator_layout(config, new), "this transferred discriminator")
    return discriminator.eval()
