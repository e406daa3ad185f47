"""StyleGAN's PyTorch port, the base of Hyper-Modulation, and the files that Hyper-Modulation's own code writes.

They differ in what stands for a convolution. No hyper-modulated weights were released: the names are those that the
authors' code writes and reads. Every file holds nine blocks: what was never trained is cut off."""

import re
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import CourseError
from ..experts.protocol import freeze
from ..gans.stylegan import FFHQ1024, StyleGAN, StyleGANConfig, StyleGANCritic
from ..hypermod import ClassNetwork, HyperGenerator
from .reading import Entry, File, Kind, State, blurs, count_below, fill, layout_of, pick, read_file

_FUSED_FROM = 128  # side in pixels from which the port fuses resampling and convolution
_ORIG = (r"(conv|linear)\.weight$", r"\1.weight_orig")
"""An equalised layer: PyTorch's hook keeps the unscaled weight. Fused layers scale theirs without a hook."""
_GENERATOR_RULES = (
    (r"^synthesis\.blocks\.", "generator.progression."),
    (r"\.constant$", ".conv1.input"),
    (r"\.conv1\.(weight|bias)$", r".conv1.0.\1"),
    (r"\.conv1\.conv\.", ".conv1.1.conv."),
    (r"\.conv2\.", ".conv2.conv."),
    (r"\.(noise\d)\.weight$", r".\1.weight_orig"),
    (r"\.style\.(weight|bias)$", r".style.linear.\1"),
    (r"^synthesis\.to_rgb\.(\d+)", r"generator.to_rgb.\1.conv"),
    (r"^mapping\.(\d+)", r"style.\1.linear"),
    _ORIG,
)
_BLURS = ("weight", "weight_flip")


def stylegan_layout(config: StyleGANConfig) -> dict[str, Entry]:
    """All tensors of a base generator."""
    layout = layout_of(lambda: StyleGAN(config), _GENERATOR_RULES)
    for index, channels in enumerate(config.channels[1:], 1):
        fused = 4 * 2**index >= config.fused_from
        layout |= blurs(f"generator.progression.{index}.conv1.{1 if fused else 2}", channels, _BLURS)
    return layout


def hyper_layout(source: StyleGANConfig, width: int = 64) -> dict[str, Entry]:
    """All tensors of a hyper-modulated generator with class vectors of ``width`` numbers, without its class network."""

    def place(index: str) -> str:
        block = (int(index) + 1) // 2
        first = f"conv1.{int(source.sizes[block] < source.fused_from)}"
        return f"generator.progression.{block}." + (first if int(index) % 2 else "conv2")

    rules = (
        (r"^source\.", ""),
        *_GENERATOR_RULES,
        (r"\.conv1\.input", ".conv1.0.input"),
        (r"^convs\.(\d+)\.weight", lambda found: f"{place(found[1])}.W"),
        (r"^convs\.(\d+)\.bias", lambda found: f"{place(found[1])}.b"),
        (r"^heads\.(\d+)\.kernel", lambda found: f"{place(found[1])}.task.linear"),
        (r"^heads\.(\d+)\.bias", lambda found: f"{place(found[1])}.task_bias_beta.linear"),
        _ORIG,
    )
    layout = layout_of(lambda: HyperGenerator(StyleGAN(source), 1, width, start="random", published=True), rules)
    # The source's own convolutions and what follows from them are not in the files.
    absent = re.compile(r"source\.synthesis\.blocks\.\d+\.conv|convs\.\d+\.source_|classes\.")
    layout = {name: entry for name, entry in layout.items() if not absent.match(entry.ours)}
    return layout | {name: entry for name, entry in stylegan_layout(source).items() if entry.ours is None}


def class_layout(classes: int, width: int = 64, layers: int = 4) -> dict[str, Entry]:
    """All tensors of the class network."""
    place = r"^layers\.(\d+)\.", lambda found: f"task.{int(found[1]) + 1}.linear."
    return layout_of(lambda: ClassNetwork(classes, width, layers), ((r"^table", "task.0.weight_orig"), place, _ORIG))


def discriminator_layout(config: StyleGANConfig, classes: int = 0, activated: bool = True) -> dict[str, Entry]:
    """All tensors of a discriminator: with one score a class in Hyper-Modulation, with one in the base model
    (``classes`` 0). Since September 2019 an activation follows from-RGB (``activated``)."""
    last, plain = len(config.critic) - 1, sum(size >= config.fused_from for size in config.sizes[1:])
    rules = (
        (r"^blocks\.(\d+)\.conv1", r"progression.\1.conv1.0.conv"),
        (r"^blocks\.(\d+)\.conv2", lambda found: f"progression.{found[1]}.conv2.1{'.conv' * (int(found[1]) >= plain)}"),
        (r"^from_rgb\.(\d+)", r"from_rgb.\1.0.conv" if activated else r"from_rgb.\1.conv"),
        (r"^last\.(\d)", lambda found: f"progression.{last}.conv{int(found[1]) + 1}.0.conv"),
        (r"^head\.", "final.conv." if classes else "linear.linear."),
        _ORIG,
    )
    layout = layout_of(lambda: StyleGANCritic(config, max(classes, 1)), rules)
    if classes:
        head = layout["final.conv.weight_orig"]
        layout["final.conv.weight_orig"] = replace(head, shape=(*head.shape, 1, 1))
    for index, channels in enumerate(config.critic[-2::-1]):
        layout |= blurs(f"progression.{index}.conv2.0", channels, _BLURS)
    return layout


def _stylegan_sizes(state: State) -> StyleGANConfig:
    """Of a generator, base or hyper-modulated; the discriminator is taken to be as wide."""
    blocks = range(count_below(state, "generator.to_rgb."))
    channels = tuple(state[f"generator.to_rgb.{k}.conv.weight_orig"].shape[1] for k in blocks)
    mapping = sum(name.startswith("style.") and name.endswith("weight_orig") for name in state)
    return StyleGANConfig(channels, channels, len(state["style.1.linear.weight_orig"]), mapping, _FUSED_FROM)


def _discriminator_sizes(state: State) -> tuple[StyleGANConfig, int, bool]:
    activated = "from_rgb.0.0.conv.bias" in state
    place = "from_rgb.{}.0.conv.bias" if activated else "from_rgb.{}.conv.bias"
    channels = tuple(len(state[place.format(k)]) for k in reversed(range(count_below(state, "from_rgb."))))
    classes = len(state["final.conv.bias"]) if "final.conv.bias" in state else 0
    return StyleGANConfig(channels, channels, fused_from=_FUSED_FROM), classes, activated


def _trained_blocks(state: State, config: StyleGANConfig) -> int:
    """How many of a generator's blocks have been trained. In the others biases of convolutions are zero as at the
    start, or NaN, which Hyper-Modulation's standardising makes of zeros."""
    for index in reversed(range(len(config.channels))):
        block = f"generator.progression.{index}.conv2."
        bias = state.get(block + "conv.bias", state.get(block + "b"))
        if bias is not None and not bias.is_meta and bias.isfinite().all() and bias.any():
            return index + 1
    return len(config.channels)


def _cut(config: StyleGANConfig, blocks: int) -> StyleGANConfig:
    return replace(config, channels=config.channels[:blocks], critic=config.critic[:blocks])


def _first_blocks(state: State, config: StyleGANConfig, size: int) -> tuple[StyleGANConfig, dict[str, Tensor]]:
    """Without the blocks that were not trained or, where it is not 0, those that draw more than ``size`` pixels."""
    if size and size not in config.sizes[1:]:
        raise CourseError(f"the file draws {', '.join(map(str, config.sizes[1:]))} pixels, not {size}.")
    blocks = config.sizes.index(size) + 1 if size else _trained_blocks(state, config)
    found = {name: re.match(r"generator\.(?:progression|to_rgb)\.(\d+)", name) for name in state}
    kept = {name: state[name] for name, place in found.items() if not (place and int(place[1]) >= blocks)}
    return _cut(config, blocks), kept


def _say(config: StyleGANConfig, state: State) -> str:
    trained = config.sizes[_trained_blocks(state, config) - 1]
    return f"{config.size} pixels" + (f", trained to {trained}" if trained != config.size else "")


def _say_scores(sizes: tuple[StyleGANConfig, int, bool], state: State) -> str:
    old = "" if sizes[2] else ", from before September 2019 (no activation after from-RGB): cannot be opened"
    return f"{sizes[0].size} pixels, {f'{sizes[1]} classes' if sizes[1] else 'one score'}{old}"


_GENERATOR = Kind(
    "StyleGAN generator",
    "generator.progression.0.conv1.input",
    "course_lib.released.stylegan.load_stylegan",
    _stylegan_sizes,
    stylegan_layout,
    {"FFHQ": FFHQ1024},
    ("g_running", "generator"),
    say=_say,
)
_HYPER = Kind(
    "hyper-modulated generator",
    "generator.progression.0.conv1.0.input",
    "course_lib.released.stylegan.load_released_hypermod",
    lambda state: (_stylegan_sizes(state), state["generator.progression.0.conv2.task.linear.weight_orig"].shape[1]),
    lambda sizes: hyper_layout(*sizes),
    {"FFHQ": (FFHQ1024, 64)},
    ("g_running", "generator"),
    say=lambda sizes, state: _say(sizes[0], state),
)
_CLASSES = Kind(
    "class network",
    "task.0.weight_orig",
    "course_lib.released.stylegan.load_released_hypermod",
    lambda state: (*state["task.0.weight_orig"].shape, sum(name.endswith(".linear.bias") for name in state)),
    lambda sizes: class_layout(*sizes),
    places=("t_running_g", "task_g", "task"),
    say=lambda sizes, _: f"{sizes[0]} rows of {sizes[1]}",
)
_DISCRIMINATOR = Kind(
    "StyleGAN discriminator",
    "progression.0.conv1.0.conv.bias",
    "course_lib.released.stylegan.load_stylegan_discriminator",
    _discriminator_sizes,
    lambda sizes: discriminator_layout(*sizes),
    places=("discriminator",),
    say=_say_scores,
)
KINDS = (_GENERATOR, _HYPER, _CLASSES, _DISCRIMINATOR)


def load_stylegan(path: File, config: StyleGANConfig | None = None, averaged: bool = True, size: int = 0) -> StyleGAN:
    """A base generator, frozen, from a file with ``g_running`` and ``generator``, or with one generator. ``config`` is
    what the whole file must fit, for example ``FFHQ1024``; None reads the sizes off it. ``averaged``: the exponential
    moving average ``g_running``, which the authors draw with. ``size``: side in pixels of what it shall draw; 0 for the
    largest that was trained."""
    state = pick(path, _GENERATOR, _GENERATOR.places if averaged else ("generator",))
    config, state, _ = _GENERATOR.fit(state, config)
    config, state = _first_blocks(state, config, size)
    return freeze(fill(StyleGAN(config), state, stylegan_layout(config), "this StyleGAN generator"))


def load_stylegan_discriminator(path: File) -> StyleGANCritic:
    """A discriminator, of the base model or of Hyper-Modulation (one score a class), frozen. In files of fewer pixels
    its first blocks are untrained: pictures of the size that was trained enter behind them."""
    (config, classes, activated), state, _ = _DISCRIMINATOR.fit(pick(path, _DISCRIMINATOR))
    if not activated:
        raise CourseError(f"{path} is from before September 2019, without activation after from-RGB: take another.")
    layout = discriminator_layout(config, classes)
    return freeze(fill(StyleGANCritic(config, max(classes, 1)), state, layout, "this StyleGAN discriminator"))


def load_released_hypermod(path: File, base: File | StyleGAN, averaged: bool = True, size: int = 0) -> HyperGenerator:
    """A generator that Hyper-Modulation's code trained, frozen, with its published computation in fused layers, from a
    self-aligned file (``generator``, ``task``) or one of a transfer (``g_running``, ``t_running_g``, and without the
    average ``generator``, ``task_g``). ``base`` is what it was made of, since the file keeps the source's kernels
    standardised, without means and standard deviations; another is refused. The rest as in :func:`load_stylegan`."""
    contents = read_file(path)
    (config, width), state, _ = _HYPER.fit(pick(contents, _HYPER, _HYPER.places if averaged else ("generator",)))
    sizes, classes, _ = _CLASSES.fit(pick(contents, _CLASSES, _CLASSES.places if averaged else ("task_g", "task")))
    config, state = _first_blocks(state, config, size)
    source = base if isinstance(base, StyleGAN) else load_stylegan(base, size=config.size)
    smaller = _cut(source.config, len(config.channels))
    if smaller != source.config:
        kept, like = source.state_dict(), next(source.parameters())
        source = StyleGAN(smaller).to(like)
        source.load_state_dict({name: kept[name] for name in source.state_dict()})
    if source.config.channels != config.channels or source.config.latent != config.latent:
        raise CourseError(f"{contents.path.name} has channels {config.channels}: give the base it was made of.")
    network = HyperGenerator(source, sizes[0], width, start="random", published=True)
    ours, layout = network.state_dict(), hyper_layout(config, width)
    for name, entry in layout.items():
        # The file's standardised kernels must be those that the base gives.
        comparable = name.endswith((".W", ".b")) and name in state and state[name].shape == entry.shape
        if comparable and not torch.allclose(state[name].float(), ours[entry.ours], atol=1e-3):
            raise CourseError(f"{name} was not made of this base: give the generator that the file was made of.")
    fill(network, state, layout, "this hyper-modulated generator")
    fill(network.classes, classes, class_layout(*sizes), "this class network")
    return freeze(network)
