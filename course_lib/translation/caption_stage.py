"""The caption stage: it says in words what is on a generated picture (paper §4.1; there a captioning network)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..data.people import ATTRIBUTES, STYLES, WORDINGS, Person, captions, describe
from ..experts import Classifier, LabelExpert
from .text import NEW_WORDINGS, belief_targets, some_of

__all__ = ["KIND_PHRASES", "STYLE_WORDS", "CaptionStage"]

STYLE_WORDS = {
    "personas": "flat",
    "micah": "ink",
    "big-smile": "cartoon",
    "pixel-art": "pixel art",
    "voxel-art": "block",
    "toon-head": "toon",
}
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
    """A picture goes in, sentences come out: a classifier and templates, where the paper has a captioning network.

    Like a captioning network it makes mistakes, and it can only say what its classifier knows.

    Args:
        classifier: frozen, with heads for the kind and for the attributes of people.
        kinds: names of the classifier's kinds.
        known: kinds that it chooses among and that sentences may be about, in the order of their beliefs.
        batch_size: pictures at a time.
    """

    def __init__(self, classifier: Classifier, kinds: Sequence[str], known: Sequence[str], batch_size: int = 250):
        self.classifier, self.batch_size, self.known = classifier, batch_size, list(known)
        self.kinds, self._places = list(kinds), [list(kinds).index(name) for name in known]

    @torch.no_grad()
    def recognise(self, pictures: Tensor) -> list[dict[str, str]]:
        """What is on pictures ``(B, 3, S, S)``: the kind, and a person's attributes; label → name."""
        device, found = next(self.classifier.parameters()).device, []
        for part in pictures.split(self.batch_size):
            logits = self.classifier(part.to(device))
            logits["kind"] = logits["kind"][:, self._places]
            heads = {name: value.argmax(1).tolist() for name, value in logits.items()}
            for k in range(len(part)):
                seen = {"kind": self.known[heads["kind"][k]]}
                if seen["kind"] in STYLES:
                    seen |= {name: values[heads[name][k]] for name, values in ATTRIBUTES.items()}
                found.append(seen)
        return found

    def caption(
        self, seen: Mapping[str, str], generator: torch.Generator, new: bool = False
    ) -> tuple[str, dict[str, str]]:
        """A sentence about what :meth:`recognise` saw, and what it names; ``new`` takes a wording kept for tests.

        Half of the sentences about people name all attributes, the others one to five; all of them name the style.
        """

        def pick(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        if seen["kind"] not in STYLES:
            phrases = KIND_PHRASES[seen["kind"]]
            phrase = phrases[-1] if new else phrases[pick(len(phrases) - 1)]
            return ("", "a picture of ", "a drawing of ", "please draw ")[pick(4)] + phrase, {"kind": seen["kind"]}
        values = {name: seen[name] for name in ATTRIBUTES}
        if not new and pick(2):
            values = some_of(values, 1 + pick(len(values)), generator)
            sentence = describe(values, pick(WORDINGS - 1))
        else:
            wordings = [k for k in range(8) if (k in NEW_WORDINGS) == new]
            sentence = captions(Person(**values))[wordings[pick(len(wordings))]]
        return f"{sentence}, {STYLE_WORDS[seen['kind']]} style", {"kind": seen["kind"], **values}

    @property
    def labels(self) -> LabelExpert:
        """Of kinds and attributes, crossed, because the generator's noise means something else in each kind."""
        crossed = [("kind", name) for name in ATTRIBUTES] + [("kind", "cut", "hair")]
        return LabelExpert({"kind": len(self.known), **{k: len(v) for k, v in ATTRIBUTES.items()}}, crossed)

    def beliefs(self, named: Sequence[Mapping[str, str]]) -> Tensor:
        """What a perfect reader reads in sentences that name this: joined one-hots of :attr:`labels`, ``(B, T)``."""
        kind = torch.zeros(len(named), len(self.known))
        for row, one in enumerate(named):
            if one.get("kind") in self.known:
                kind[row, self.known.index(one["kind"])] = 1.0
        people = [{name: value for name, value in one.items() if name in ATTRIBUTES} for one in named]
        return torch.cat([kind, belief_targets(people)], 1)
