"""Net2Net's released files: flows, experts, and whole translators, under the names of CompVis/net2net."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import nn

from ..cinn.flow import ConditionalFlow, FlowConfig
from ..errors import CourseError
from .net2net_experts import NETWORKS, RELEASED_EXPERTS, BasicAutoencoderConfig, BigAutoencoderConfig, GeneratorConfig
from .reading import File, Kind, Layout, State, choose, count_below, fill, identify, layout_of, pick, read_file, take

_FLOW, _SENTENCES = "flow.", "cond_stage_model.model."
_PLACES = {"target": "first_stage_model.", "source": "cond_stage_model."}
_PLACES |= {"captioner": "to_c_model.", "dequantiser": "dequantizer."}
"""Parts of a translator's file, beside its flow."""

# --- flows ----------------------------------------

_RELEASED = {
    **dict.fromkeys(("anime", "portraits"), (128, 2, 10, 20, "labels", "faces256")),
    "ccfq": (128, 3, 10, 20, "labels", "faces256"),
    "faces32to256": (128, 128, 128, 20, "autoencoder", "faces256", "faces32"),
    "sbert_ae": (256, 1024, 256, 24, "sentences", "coco256"),
    "sbert_bigbigan": (120, 1024, 256, 24, "sentences"),
    "sbert_biggan": (268, 768, 268, 24, "sentences", "biggan256", "", "captioner", "dequantiser"),
}
"""Numbers of the latent, the condition, the embedding; blocks; kind and experts as in :class:`TranslatorConfig`."""
RELEASED_FLOWS = {
    name: FlowConfig(dim, (condition,), embedding, blocks=blocks, embedder_batch_norm=True)
    for name, (dim, condition, embedding, blocks, *_) in _RELEASED.items()
}
_MARK, _COUPLING = "sub_layers.0.coupling.s.0.main.0.weight", "sub_layers.0.coupling.s.0.main."


def flow_layout(config: FlowConfig) -> Layout:
    """All tensors of a flow by released name. Layers, norms and activations share one running index in a released
    chain; the activations hold nothing."""
    step, end = 3 if config.embedder_batch_norm else 2, config.embedder_depth + 1
    conv = config.embedder_kind == "conv"
    rules = (
        # The dense embedder, the tapered and the convolutional one.
        (r"^embedder\.net\.hidden\.(\d+)", lambda found: f"embedder.main.{step * int(found[1])}"),
        (r"^embedder\.net\.norms\.(\d+)", lambda found: f"embedder.main.{step * int(found[1]) + 1}"),
        (r"^embedder\.net\.out", f"embedder.main.{step * end}"),
        (r"^embedder\.linears\.(\d+)", lambda found: f"embedder.net.{3 * int(found[1])}"),
        (r"^embedder\.convs\.(\d+)", r"embedder.feature_layers.\1.sub_layers.0"),
        (r"^embedder\.norms\.(\d+)", r"embedder.feature_layers.\1.sub_layers.1" if conv else r"embedder.net.\1.norm"),
        (r"^embedder\.net\.(\d+)\.norm", lambda found: f"embedder.net.{3 * int(found[1]) + 1}"),
        (r"^embedder\.out", "embedder.dense_encode.sub_layers.0"),
        (r"^blocks\.(\d+)\.norm\.", r"sub_layers.\1.norm_layer."),
        (r"^blocks\.(\d+)\.coupling\.scale_nets\.(\d)", r"sub_layers.\1.coupling.s.\2.main"),
        (r"^blocks\.(\d+)\.coupling\.shift_nets\.(\d)", r"sub_layers.\1.coupling.t.\2.main"),
        (r"main\.hidden\.(\d+)", lambda found: f"main.{2 * int(found[1])}"),
        (r"main\.out", f"main.{2 * config.hidden_depth + 2}"),
        (r"^blocks\.(\d+)\.shuffle\.order", r"sub_layers.\1.shuffle.forward_shuffle_idx"),
        (r"^blocks\.(\d+)\.shuffle\.inverse_order", r"sub_layers.\1.shuffle.backward_shuffle_idx"),
    )
    layout = layout_of(lambda: ConditionalFlow(config), rules)
    for name, entry in layout.items():
        if name.endswith((".loc", ".scale")):
            layout[name] = replace(entry, shape=(1, *entry.shape, 1, 1))  # there ActNorm is made for maps
        elif name.startswith("embedder.net.") and len(entry.shape) == 2:
            layout[name] = replace(entry, shape=(*entry.shape, 1, 1))  # and the tapered embedder of 1×1 convolutions
    return layout


def _flow_sizes(state: State) -> FlowConfig:
    """Of a flow with a dense embedder; activation "none", as in all released ones: it leaves no trace."""
    batch_norm = "embedder.main.1.running_mean" in state
    last = count_below(state, "embedder.main.") - 1
    embedder_hidden, condition_dim = state["embedder.main.0.weight"].shape
    return FlowConfig(
        dim=state["sub_layers.0.norm_layer.loc"].numel(),
        condition_shape=(condition_dim,),
        embedding_dim=len(state[f"embedder.main.{last}.weight"]),
        hidden_dim=len(state[_MARK]),
        hidden_depth=(count_below(state, _COUPLING) - 1) // 2 - 1,
        blocks=count_below(state, "sub_layers."),
        embedder_hidden_dim=embedder_hidden,
        embedder_depth=last // (3 if batch_norm else 2) - 1,
        embedder_batch_norm=batch_norm,
    )


def _with_silent_condition(state: State) -> State:
    """An unconditional flow's tensors as those of one whose condition, a single number, is multiplied by zero."""
    dim, known = state["sub_layers.0.norm_layer.loc"].numel(), state[_MARK].shape[1]
    if dim % 2:
        raise CourseError(f"an unconditional flow of the odd size {dim} has no inverse in the released code.")
    if known != dim // 2:
        raise CourseError(f"this flow takes an embedding of {known - dim // 2} numbers, and its embedder is missing.")
    shapes = {"weight": (1, 1), "bias": (1,)}
    silent = {f"embedder.main.{i}.{name}": torch.zeros(shape) for i in (0, 2) for name, shape in shapes.items()}
    for name, tensor in state.items():
        first = ".coupling." in name and name.endswith(".main.0.weight")
        silent[name] = torch.cat([tensor, tensor.new_zeros(len(tensor), 1)], 1) if first else tensor
    return silent


_CONDITIONAL = Kind(
    "Net2Net flow",
    _MARK,
    "course_lib.released.net2net.load_net2net_flow",
    _flow_sizes,
    flow_layout,
    RELEASED_FLOWS,
    when=lambda state: any(name.startswith("embedder.") for name in state),
    say=lambda config, _: f"{config.blocks} blocks of width {config.hidden_dim}",
)
_UNCONDITIONAL = replace(
    _CONDITIONAL,
    name="Net2Net flow without condition",
    when=lambda state: not _CONDITIONAL.when(state),
    adapt=_with_silent_condition,
)


def load_net2net_flow(path: File, config: FlowConfig | str | None = None, activation: str = "") -> ConditionalFlow:
    """A released flow, in evaluation mode, float32, on the CPU, from its file, or that of a whole translator, whose
    experts are left out. An unconditional flow gets a condition that changes nothing: ``torch.zeros(B, 1)``.

    ``config`` is a configuration, a name in ``RELEASED_FLOWS``, or None: read off the tensors. With its
    ``activation_log_det=False`` the leaky activation's log-determinant is 0, as in the released code. ``activation`` is
    "none", as in all released ones, or "leaky_relu": the file has no trace of it; by default it is that of ``config``.
    """
    contents = read_file(path)
    bare = {place: identify(state)[1] for place, state in contents.parts.items()}
    parts = {place: take(state, _FLOW) or state for place, state in bare.items()}
    found = [identify(state)[0] for state in parts.values()]
    kind = _UNCONDITIONAL if _UNCONDITIONAL in found else _CONDITIONAL
    config, state, _ = kind.fit(pick(replace(contents, parts=parts), kind), config)
    return _build_flow(state, replace(config, activation=activation or config.activation))


def _build_flow(state: State, config: FlowConfig) -> ConditionalFlow:
    for name, order in state.items():
        if name.endswith("forward_shuffle_idx"):
            back = state[name.replace("forward", "backward")]
            if not torch.equal(order.sort().values, torch.arange(len(order))) or not torch.equal(order.argsort(), back):
                raise CourseError(f"{name} and its inverse are no permutation: the file is damaged, fetch it again.")
    with torch.device("meta"):
        flow = ConditionalFlow(config)
    fill(flow, state, flow_layout(config), "this flow")
    flow.load_state_dict(flow.state_dict())  # layers that keep something beside their tensors read it anew
    return flow.eval()


# --- experts ----------------------------------------

_LOSS = (
    ("loss.logvar", "loss.perceptual_loss.", "loss.discriminator."),
    "the training loss (loss.*): perceptual network, patch discriminator, learned variance",
)


def _network(config: Any) -> nn.Module:
    """On the ``meta`` device: it takes no memory yet."""
    with torch.device("meta"):
        return NETWORKS[type(config)][0](config)


def _expert_layout(config: Any) -> Layout:
    """In the files BigGAN's generator has no wrapper."""
    prefix = "decoder." if isinstance(config, GeneratorConfig) else ""
    return {name.removeprefix(prefix): entry for name, entry in layout_of(_network(config)).items()}


_EXPERTS = {
    config: Kind(
        name,
        mark,
        "course_lib.released.net2net.load_net2net_expert",
        config.read,
        _expert_layout,
        {key: known for key, known in RELEASED_EXPERTS.items() if type(known) is config},
        drop=_LOSS if "autoencoder" in name else ((), ""),
    )
    for config, (_, name, mark) in NETWORKS.items()
}


def load_net2net_expert(path: File, config: Any = None, word_map: dict[str, int] | None = None) -> nn.Module:
    """A released expert: autoencoder, BigGAN's generator, dequantiser or captioner, whichever the file holds; ``notes``
    says what of an autoencoder's training loss was left out. ``config`` is what it must fit, or a name in
    ``RELEASED_EXPERTS``; None reads the sizes off it. ``word_map`` is word → number, the JSON file that was published
    beside the captioner's weights."""
    contents, config = read_file(path), choose(config, RELEASED_EXPERTS, "expert")
    found = [identify(state)[0] for state in contents.parts.values()]
    unknown = replace(_EXPERTS[GeneratorConfig], name="Net2Net expert")
    kind = _EXPERTS.get(type(config)) or next((k for k in found if k in _EXPERTS.values()), unknown)
    config, state, notes = kind.fit(pick(contents, kind), config)
    network = fill(_network(config), state, _expert_layout(config), f"this {kind.name}")
    if word_map:
        network.words = tuple(sorted(word_map, key=word_map.__getitem__))
    network.notes = notes
    return network


# --- translators ----------------------------------------


@dataclass(frozen=True)
class TranslatorConfig:
    """What a translator's checkpoint holds."""

    flow: FlowConfig
    # Of the source expert; labels have no tensors, and those of a sentence model are left out when reading.
    kind: Literal["labels", "autoencoder", "sentences"]
    target: BigAutoencoderConfig | GeneratorConfig | None = None  # None: a black box outside of the file (BigBiGAN)
    source: BasicAutoencoderConfig | None = None
    captioner: Any = None  # this and the dequantiser made the training pairs of a BigGAN translator
    dequantiser: Any = None

    def networks(self) -> dict[str, nn.Module]:
        """Prefix → network of every part but the flow, on the ``meta`` device."""
        parts = {prefix: getattr(self, part) for part, prefix in _PLACES.items()}
        return {prefix: _network(config) for prefix, config in parts.items() if config is not None}

    @classmethod
    def read(cls, state: State) -> "TranslatorConfig":
        """Off the tensors. A source without any is taken for labels, or for sentences where the target is BigGAN."""
        configs: dict[str, Any] = {}
        for part, prefix in _PLACES.items():
            for config, (_, _, mark) in NETWORKS.items():
                tensors = take(state, prefix + "decoder." * (config is GeneratorConfig))
                configs |= {part: config.read(tensors)} if mark in tensors else {}
        read = take(state, _PLACES["source"]) or isinstance(configs.get("target"), GeneratorConfig)
        kind = "autoencoder" if "source" in configs else "sentences" if read else "labels"
        return cls(_flow_sizes(take(state, _FLOW)), kind, **configs)


RELEASED_TRANSLATORS = {
    name: TranslatorConfig(RELEASED_FLOWS[name], kind, *map(RELEASED_EXPERTS.get, experts))
    for name, (_, _, _, _, kind, *experts) in _RELEASED.items()
}
"""Labels by number: photograph, anime; photograph, oil portrait; CelebA, CelebA-HQ, FFHQ."""


def translator_layout(config: TranslatorConfig) -> Layout:
    """All tensors of a translator's checkpoint by released name, but those of a sentence model."""
    parts = {prefix: layout_of(network) for prefix, network in config.networks().items()}
    parts[_FLOW] = flow_layout(config.flow)
    return {prefix + name: entry for prefix, part in parts.items() for name, entry in part.items()}


_TRANSLATOR = Kind(
    "Net2Net translator",
    _FLOW + _MARK,
    "course_lib.translation.load_released_translator",
    TranslatorConfig.read,
    translator_layout,
    RELEASED_TRANSLATORS,
    when=lambda state: not all(name.startswith(_FLOW) for name in state),
    drop=((_SENTENCES,), f"the sentence model ({_SENTENCES}*): open it with SentenceExpert"),
    say=lambda config, _: f"from {config.kind}" + ("" if config.target else ", its target is not in the file"),
)
KINDS = (_CONDITIONAL, _UNCONDITIONAL, _TRANSLATOR, *_EXPERTS.values())


def load_translator_parts(path: File, config: TranslatorConfig | str | None = None) -> SimpleNamespace:
    """What a translator's checkpoint holds; ``config``, or a name in ``RELEASED_TRANSLATORS``, is what it must fit.

    ``config``, ``flow``, ``step`` (how many training steps the file says it has behind it), ``notes`` (what was left
    out), and ``source``, ``target``, ``captioner``, ``dequantiser``: networks, or None.
    ``course_lib.translation.load_released_translator`` joins them."""
    contents = read_file(path)
    # A flow alone does where the target comes from outside.
    alone = [state for state in contents.parts.values() if _TRANSLATOR.mark in state] or [pick(contents, _TRANSLATOR)]
    config, state, notes = _TRANSLATOR.fit(alone[0], config)
    networks = config.networks()
    for prefix, network in networks.items():
        fill(network, take(state, prefix), layout_of(network), prefix)
    parts = {part: networks.get(prefix) for part, prefix in _PLACES.items()}
    flow = _build_flow(take(state, _FLOW), config.flow)
    return SimpleNamespace(config=config, flow=flow, step=contents.step, notes=notes, **parts)
