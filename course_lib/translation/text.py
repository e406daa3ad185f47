"""Text to image (notebook 04): sentences as conditions, captions drawn at every step, a generator as target expert.
Labels are read off SBERT's embeddings by a linear map. A caption stage says what is on the generator's pictures, where
the paper has a captioning network (§4.1); its discrete class embeddings are dequantised into a density."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cinn.layers import ridge_regression
from ..data.image_set import ImageSet
from ..data.people import ATTRIBUTES, STYLES, WORDINGS, Person, captions, partial_caption
from ..errors import CourseError
from ..experts.conditions import LabelExpert
from ..experts.networks import Classifier, LatentSpace, Posterior
from ..experts.protocol import Device, SourceExpert, load_expert
from ..training.runs import Loss, Method, load_card
from .translator import FlowMethod, Pairs

NEW_WORDINGS = (3, 6)
"""Of :func:`course_lib.data.people.captions`; with the last wording of :func:`partial_caption` kept for tests."""

NAMED = 0.5
"""Least belief in a value that counts as named; named values have 0.55 or more, open attributes 0.41 or less."""


@dataclass(eq=False)
class CaptionSource:
    """Source expert: a sentence embedding, a fixed linear map that reads labels off it, and the style to draw in. A
    flow cannot find six attributes in 384 numbers from a thousand sentences; least squares can. Its beliefs are rounded
    to labels: a condition between two hair colours would draw a blend of them."""

    sentences: SourceExpert
    mean: Tensor  # (F,), of the embeddings
    weight: Tensor  # (F, T), and
    offset: Tensor  # (T,), of the map to the joined one-hots of ``labels``, with ``names`` of those behind the first
    labels: LabelExpert
    names: Sequence[str] = ()  # of the first attribute, the styles, which then are given beside sentences
    always: str = ""  # the attribute that every sentence names, however little the map believes it

    @property
    def condition_shape(self) -> tuple[int, ...]:
        return self.labels.condition_shape

    @classmethod
    def fit(cls, sentences: SourceExpert, x: Tensor, targets: Tensor, *labels: Any, ridge: float = 1e-2) -> Self:
        """Ridge regression of ``targets (N, T)``, 1 for what a caption says, on embeddings ``x (N, F)``."""
        weight, offset = ridge_regression([(x - x.mean(0), targets)], ridge)
        return cls(sentences, x.mean(0), weight.T.to(x), offset.to(x), *labels)

    def read(self, x: Sequence[str]) -> Tensor:
        """Beliefs ``(B, T)``: near 1 what a sentence says, near 0 what it does not."""
        return (self.sentences.encode(list(x)).to(self.mean) - self.mean) @ self.weight + self.offset

    def decide(self, beliefs: Tensor) -> Tensor:
        """One-hots ``(B, T)`` of each attribute's most believed value; zeros, left open, below :data:`NAMED`."""
        parts = list(self.labels.slices.items())[1 if self.names else 0 :]
        blocks, hot = beliefs.split([part.stop - part.start for _, part in parts], 1), []
        for (name, _), block in zip(parts, blocks, strict=True):
            value, k = block.max(1, keepdim=True)
            named = (value >= NAMED) | (name == self.always)
            hot.append(torch.zeros_like(block).scatter(1, k, named.to(block)))
        return torch.cat(hot, 1)

    def encode(self, x: Sequence[str] | Sequence[tuple[str, str]]) -> Tensor:
        """Conditions ``(B, K)`` of sentences, or of pairs (sentence, style) where this source has styles."""
        if not self.names:
            return self.condition(self.read(x))
        if any(isinstance(one, str) or one[1] not in self.names for one in x):
            raise CourseError(f"give pairs (sentence, style), with a style among {', '.join(self.names)}.")
        style = torch.tensor([self.names.index(style) for _, style in x])
        return self.condition(self.read([sentence for sentence, _ in x]), style)

    def condition(self, beliefs: Tensor, style: Tensor | None = None) -> Tensor:
        joined = self.decide(beliefs)
        if self.names:
            joined = torch.cat([F.one_hot(style.long(), len(self.names)).to(joined), joined], 1)
        return self.labels.cross(joined)

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "weight": self.weight, "offset": self.offset}


def combinations_of(data: ImageSet) -> tuple[list[Mapping[str, str]], Tensor]:
    """The different combinations of attributes in ``data``, and for every picture which one it has, ``int64 (N,)``."""
    rows, owner = torch.stack([data.labels[name] for name in ATTRIBUTES], 1).unique(dim=0, return_inverse=True)
    values = [{name: data.classes[name][k] for name, k in zip(ATTRIBUTES, row, strict=True)} for row in rows.tolist()]
    return values, owner


def _pick(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _some_of(values: Mapping[str, str], count: int, generator: torch.Generator) -> dict[str, str]:
    chosen = torch.randperm(len(values), generator=generator)[:count].tolist()
    return {name: value for k, (name, value) in enumerate(values.items()) if k in chosen}


Values = Mapping[str, str]
Captions = tuple[list[str], list[Values]]
"""Sentences, and the attributes that each of them names, with their values."""


def training_captions(values: Values, partial: int, generator: torch.Generator) -> Captions:
    """The six complete wordings of training about one combination of attributes, then ``partial`` sentences that name
    none to four of them."""
    texts = [text for k, text in enumerate(captions(Person(**values))) if k not in NEW_WORDINGS]
    named = [values] * len(texts)
    for _ in range(partial):
        some = _some_of(values, _pick(len(values), generator), generator)
        texts.append(partial_caption(some, _pick(WORDINGS - 1, generator)))
        named.append(some)
    return texts, named


def new_captions(values: Values, count: int, generator: torch.Generator) -> Captions:
    """In wordings that are never trained on: two complete ones, ``count`` with two or three attributes."""
    complete = captions(Person(**values))
    some = [_some_of(values, 2 + k % 2, generator) for k in range(count)]
    texts = [complete[k] for k in NEW_WORDINGS] + [partial_caption(one, WORDINGS - 1) for one in some]
    return texts, [values] * len(NEW_WORDINGS) + some


def belief_targets(named: Sequence[Values]) -> Tensor:
    """1 for what is named: ``(N, T)``, the joined one-hots of :data:`ATTRIBUTES`. Who is bald has no hair colour."""
    bald = {("cut", "bald"), ("hair", "none")}
    columns = [(name, value) for name, values in ATTRIBUTES.items() for value in values]
    said = [set(one.items()) for one in named]
    said = [one | bald if one & bald else one for one in said]
    return torch.tensor([[float(column in one) for column in columns] for one in said])


class CaptionMethod(FlowMethod):
    """Conditional maximum likelihood where every step draws a picture and one of the captions that fit it. Conditions
    of ``pairs`` are style numbers ``(N,)``; ``owner int64 (N,)`` is each picture's row of the ``table (E, C, T)``, the
    beliefs of C captions for each of E combinations."""

    moved = ("pairs", "held", "owner", "table")

    def __init__(self, pairs: Pairs, owner: Tensor, table: Tensor, source: CaptionSource, flow: nn.Module, **more: Any):
        super().__init__(pairs, flow, **more)
        self.owner, self.table, self.source = owner, table, source

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        latent, style = super().batch(index, generator)
        index = index.to(self.device)
        pick = torch.randint(self.table.shape[1], (len(index),), generator=generator).to(self.device)
        return latent, self.source.condition(self.table[self.owner[index], pick], style)


STYLE_WORDS = dict(zip(STYLES, ("flat", "ink", "cartoon", "pixel art", "block", "toon"), strict=True))
"""How sentences name the styles of people: "a sad person with red hair, ink style"."""

KIND_PHRASES: dict[str, tuple[str, ...]] = {
    "adventurer": ("a cartoon head with big eyes", "the head of a cartoon hero", "a comic hero's head"),
    "adventurer-neutral": ("eyes and a mouth without a head", "only eyes, brows and a mouth", "floating eyes and lips"),
    "big-ears": ("a head with big ears", "a face with very large ears", "someone whose ears are huge"),
    "cameo": ("a round head without eyes", "a simple head of two colours", "a plain head with no eyes"),
    "clay": ("a little clay monster", "a monster made of clay", "a creature of modelling clay"),
    "croodles": ("a scribbled face", "a face drawn by a child", "a doodle of a face"),
    "cutouts": ("a face cut out of paper", "a paper collage of a face", "a face of paper cuttings"),
    "fun-emoji": ("a square emoji", "an emoji on a coloured square", "an emoji face in a bright square"),
    "gaze": ("a shape with two eyes", "a triangle or circle that looks at you", "a coloured shape with eyes"),
    "glyphs": ("a sign above a hill", "a letter on a pale ground", "a glyph over a dark mound"),
    "icons": ("a grey icon", "a simple grey symbol", "a pictogram in grey lines"),
    "identicon": ("a pattern of squares", "a symmetric block pattern", "mirrored pixels of one colour"),
    "line-face": ("a face of a few lines", "two dots and three strokes", "a minimal line face"),
    "lorelei": ("a head in black ink", "an ink drawing of a head", "a black and white portrait"),
    "marbles": ("a shiny ball with a face", "a colourful marble", "a glossy ball that smiles"),
    "miniavs": ("a small bust with a pointed chin", "a tiny avatar in profile", "a little bust from the side"),
    "notionists": (
        "a person in black and white who waves",
        "an ink drawing of a person",
        "someone sketched with hands",
    ),
    "rings": ("coloured rings", "concentric circles", "circles around circles"),
    "shadows": ("a silhouette", "the shadow of a person", "a dark outline of somebody"),
    "slice": ("a striped pebble", "a round stone in slices", "a sliced boulder"),
    "stack": ("a pile of stones", "stacked pebbles", "a cairn"),
    "thumbs": ("a thumb with a face", "a smiling thumb", "a finger with eyes"),
}
"""Kind → what to call it; the last phrase is kept for tests. People are called by their attributes."""


class CaptionStage:
    """A picture goes in, sentences come out: a classifier and templates, where the paper has a captioning network. The
    classifier makes mistakes; of the ``kinds`` it knows, it chooses among the ``known`` ones."""

    def __init__(self, classifier: Classifier, kinds: Sequence[str], known: Sequence[str]):
        self.classifier, self.known, self.kinds = classifier, list(known), list(kinds)
        self._places = [self.kinds.index(name) for name in known]

    @torch.no_grad()
    def recognise(self, pictures: Tensor) -> list[dict[str, str]]:
        """What is on pictures ``(B, 3, S, S)``: the kind, and a person's attributes; label → name."""
        device, found = next(self.classifier.parameters()).device, []
        for part in pictures.split(250):
            logits = self.classifier(part.to(device))
            logits["kind"] = logits["kind"][:, self._places]
            heads = {name: value.argmax(1).tolist() for name, value in logits.items()}
            for k, kind in enumerate(heads["kind"]):
                shown = ATTRIBUTES.items() if self.known[kind] in STYLES else ()
                found.append({"kind": self.known[kind]} | {name: values[heads[name][k]] for name, values in shown})
        return found

    def caption(self, seen: Values, generator: torch.Generator, new: bool = False) -> tuple[str, dict[str, str]]:
        """A sentence about what :meth:`recognise` saw, and what it names; ``new`` takes a wording kept for tests. Half
        of the sentences about people name all attributes, the others one to five; all of them name the style."""
        if seen["kind"] not in STYLES:
            phrases = KIND_PHRASES[seen["kind"]]
            phrase = phrases[-1] if new else phrases[_pick(len(phrases) - 1, generator)]
            start = ("", "a picture of ", "a drawing of ", "please draw ")[_pick(4, generator)]
            return start + phrase, {"kind": seen["kind"]}
        values = {name: seen[name] for name in ATTRIBUTES}
        if not new and _pick(2, generator):
            values = _some_of(values, 1 + _pick(len(values), generator), generator)
            sentence = partial_caption(values, _pick(WORDINGS - 1, generator))
        else:
            wordings = [k for k in range(8) if (k in NEW_WORDINGS) == new]
            sentence = captions(Person(**values))[wordings[_pick(len(wordings), generator)]]
        return f"{sentence}, {STYLE_WORDS[seen['kind']]} style", {"kind": seen["kind"], **values}

    @property
    def labels(self) -> LabelExpert:
        """Of kinds and attributes, crossed, because the generator's noise means something else in each kind."""
        crossed = [("kind", name) for name in ATTRIBUTES] + [("kind", "cut", "hair")]
        return LabelExpert({"kind": len(self.known), **{k: len(v) for k, v in ATTRIBUTES.items()}}, crossed)

    def beliefs(self, named: Sequence[Values]) -> Tensor:
        """What a perfect reader reads in sentences that name this: joined one-hots of :attr:`labels`, ``(B, T)``."""
        kind = torch.tensor([[float(one.get("kind") == name) for name in self.known] for one in named])
        return torch.cat([kind, belief_targets(named)], 1)


class GanTarget(nn.Module):
    """Target expert: noise and class embedding as one vector, noise first (paper §4.1; its code's ``Net2BigGANFlow``).
    Nobody knows the ``z`` of a given picture, so pairs start from ``z``, see :func:`generate_pairs`. ``rounded`` takes
    the embedding of the nearest class where the paper renders any. ``space`` decodes what the generator draws."""

    def __init__(self, generator: nn.Module, rounded: bool = False, space: LatentSpace | None = None):
        if generator.config.embedding is None:
            raise CourseError("this generator has no class embeddings to translate into: take one with `embedding`.")
        super().__init__()
        self.generator, self.rounded, self.space = generator, rounded, space
        self.noise, self.latent_dim = generator.config.noise, generator.config.noise + generator.config.embedding

    @classmethod
    def load(cls, name: str, device: Device = "cpu", rounded: bool = False) -> "GanTarget":
        space = load_card(name).recipe.get("space")
        return cls(load_expert(name, device), rounded, LatentSpace(load_expert(space, device)) if space else None)

    @property
    def classes(self) -> Tensor:
        """Embeddings of all classes, ``(C, E)``."""
        return self.generator.shared.weight.detach()

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1]."""
        if latent.shape[1:] != (self.latent_dim,):
            raise CourseError(f"this target takes latents (B, {self.latent_dim}), not {tuple(latent.shape)}.")
        noise, embedding = latent[:, : self.noise], latent[:, self.noise :]
        if self.rounded:
            embedding = self.classes[nearest_class(embedding, self.classes)]
        drawn = self.generator(noise, embedding)
        return drawn if self.space is None else self.space.decode(drawn)

    def encode(self, x: Tensor) -> Tensor:
        raise CourseError("a GAN has no encoder: make pairs from its own samples with generate_pairs.")


@dataclass(frozen=True)
class GeneratedPairs:
    """Generated pictures as far as the flow needs them."""

    z: Tensor  # (N, Z)
    label: Tensor  # int64 (N,)
    thing: Tensor  # int64 (N,): what the caption stage saw, a row of ``things``
    things: list[dict[str, str]]  # the different things seen, each label → name

    def __len__(self) -> int:
        return len(self.label)

    def subset(self, index: Tensor) -> "GeneratedPairs":
        return GeneratedPairs(self.z[index], self.label[index], self.thing[index], self.things)

    def latents(self, target: GanTarget, dequantiser: nn.Module, generator: torch.Generator | None = None) -> Tensor:
        """Flow targets ``(N, Z + E)``: noise, then a random neighbour of the class embedding."""
        clean = target.classes[self.label.to(target.classes.device)]
        return torch.cat([self.z.to(clean), dequantiser(clean, generator)], 1)


@torch.no_grad()
def generate_pairs(
    target: GanTarget, stage: CaptionStage, count: int, weights: Sequence[float] | Tensor, seed: int = 0
) -> tuple[GeneratedPairs, Tensor]:
    """Draws noise and classes, as often as ``weights (C,)`` say, and recognises what is on the pictures of the *clean*
    embeddings, which belong to the latents (paper §4.1). Also returns the last ``(≤ 250, 3, S, S)`` pictures."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.as_tensor(weights, dtype=torch.float32)
    label = torch.multinomial(weights, count, replacement=True, generator=generator)
    z = torch.randn(count, target.noise, generator=generator)
    places: dict[tuple, int] = {}  # what was seen, and its row among the things
    thing, device = [], target.classes.device
    for noise, one in zip(z.split(250), label.split(250), strict=True):
        pictures = target.decode(torch.cat([noise.to(device), target.classes[one.to(device)]], 1))
        thing += [places.setdefault(tuple(seen.items()), len(places)) for seen in stage.recognise(pictures)]
    return GeneratedPairs(z, label, torch.tensor(thing), [dict(seen) for seen in places]), pictures.cpu()


class GanMethod(CaptionMethod):
    """Trains a flow on generated pairs; a frozen ``dequantiser`` moves the class embeddings anew in every step."""

    moved = (*CaptionMethod.moved, "label", "classes", "dequantiser")

    def __init__(
        self,
        pairs: GeneratedPairs,
        target: GanTarget,
        dequantiser: nn.Module,
        table: Tensor,
        source: CaptionSource,
        flow: nn.Module,
        held: GeneratedPairs | None = None,
        **named: Any,
    ):
        self.dequantiser, self.classes, self.label = dequantiser, target.classes, pairs.label

        def fixed(some: GeneratedPairs) -> Pairs:
            """One draw of every latent with its first caption: for the linear shift and for the held-out loss."""
            latent = some.latents(target, dequantiser, torch.Generator().manual_seed(0))
            return Pairs(source.condition(table[some.thing.to(table.device), 0]), latent, torch.zeros_like(latent))

        kept = None if held is None else fixed(held)
        super().__init__(fixed(pairs), pairs.thing, table, source, flow, held=kept, **named)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise as it was, a fresh neighbour of the class embedding, and a caption that fits."""
        latent, condition = super().batch(index, generator)
        moved = self.dequantiser(self.classes[self.label[index.to(self.device)]], generator)
        return torch.cat([latent[:, : -moved.shape[1]], moved], 1), condition


def class_distance(embeddings: Tensor) -> float:
    """Mean distance from a class embedding to the nearest other one; ``embeddings: (C, E)``, all different."""
    if len(embeddings) < 2:
        raise CourseError("a distance between classes needs two of them.")
    distance = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.fill_diagonal_(float("inf")).amin(1)
    if float(nearest.min()) == 0:
        raise CourseError("two classes have the same embedding: nothing can tell them apart.")
    return nearest.mean().item()


def nearest_class(vectors: Tensor, embeddings: Tensor) -> Tensor:
    """``int64 (B,)``: the class whose embedding ``(C, E)`` is nearest to each of ``vectors: (B, E)``."""
    return torch.cdist(vectors, embeddings).argmin(1)


def _linear(network: nn.Module, matrix: Tensor, offset: Tensor) -> None:
    """Sets a LeakyReLU network whose hidden layers are twice as wide as its ends to ``x ↦ matrix · x + offset``. The
    hidden layers carry ``x`` and ``−x``; from the two activations the next layer restores both."""
    slope = next(part.negative_slope for part in network.modules() if isinstance(part, nn.LeakyReLU))
    first, *middle, last = [part for part in network.modules() if isinstance(part, nn.Linear)]
    both = torch.cat([torch.eye(first.in_features), -torch.eye(first.in_features)])
    for layer, weight in ((first, both), *((layer, both @ both.T / (1 + slope)) for layer in middle)):
        layer.weight.copy_(weight)
        layer.bias.zero_()
    last.weight.copy_(matrix @ both.T / (1 + slope))
    last.bias.copy_(offset)


@torch.no_grad()
def start_dequantiser(embeddings: Tensor, spread: float = 0.3) -> nn.Module:
    """A dequantiser that can be trained, and that begins as the best isotropic linear autoencoder, which default
    weights learn in tens of thousands of steps. With a code shorter than the embedding there would be no density."""
    # Imported late: who translates with a trained flow opens no readers of released files.
    from ..released.net2net_experts import Dequantiser, DequantiserConfig

    embeddings = embeddings.detach().cpu()
    dim = embeddings.shape[1]
    width = likelihood_width(embeddings, spread)
    network = Dequantiser(DequantiserConfig(dim, dim, 2 * dim))
    mean, scale = embeddings.mean(0), embeddings.std(0, correction=0).mean()
    eye = torch.eye(dim)
    _linear(network.encoder, eye, torch.zeros(dim))
    _linear(network.mu_layer, eye / scale, -mean / scale)
    _linear(network.logvar_layer, 0 * eye, (width**2 / (width**2 + scale**2)).log().expand(dim))
    _linear(network.decoder, eye * scale, mean)
    return network.requires_grad_(True)


def likelihood_width(embeddings: Tensor, spread: float) -> float:
    """``s`` of the likelihood: an error vector with this deviation has the length ``spread`` × class distance."""
    return spread * class_distance(embeddings) / embeddings.shape[1] ** 0.5


class DequantiserMethod(Method):
    """The evidence lower bound ``‖e − ê‖² / (2 s²) + KL`` on the class embeddings ``(C, E)`` alone, with ``s`` of
    :func:`likelihood_width`. The original's training code is not released; this objective is ours."""

    moved = ("embeddings",)

    def __init__(self, embeddings: Tensor, network: nn.Module, spread: float = 0.3, rate: float = 1e-3):
        super().__init__()
        self.embeddings = embeddings.detach().clone()
        self.width = likelihood_width(self.embeddings, spread)
        self.modules = {"dequantiser": network}
        self.optimizers = {"dequantiser": torch.optim.Adam(network.parameters(), rate, fused=True)}
        self.ema, self.length = {"dequantiser": 0.99}, 1024 * len(embeddings)

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Embeddings ``(B, E)`` of all classes in turn, and the noise for their codes."""
        network = self.unwrapped("dequantiser")
        noise = torch.randn(len(index), network.config.code_dim, generator=generator)
        return self.embeddings[index.to(self.device) % len(self.embeddings)], noise.to(self.device)

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        embedding, noise = batch
        network = self.unwrapped("dequantiser")
        features = network.encoder(embedding)
        code = Posterior(network.mu_layer(features), network.logvar_layer(features).clamp(-20.0, 10.0))
        error = (network.decoder(code.moved(noise)) - embedding).square().sum(1).mean()
        kl = code.kl().mean()
        yield Loss("dequantiser", error / (2 * self.width**2) + kl, {"kl": kl, "error": error.sqrt()})

    def learning_rate(self, progress: float) -> float:
        return 1.0 - 0.95 * progress
