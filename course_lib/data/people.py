"""People: the same person drawn in six styles, by one table that everybody can read and extend.

A :class:`Person` is a handful of attributes and a seed; :data:`STYLES` says which options of the DiceBear generator
draw them in each style. The same person, style and package version give the same picture everywhere. The artwork
belongs to the designers named in ``data/LICENSES.md``; :data:`ADDITIONS` are the course's own."""

import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

SKIN = {"pale": "#ffe3cc", "light": "#f0be95", "tan": "#d0955f", "brown": "#a4673b", "dark": "#5f3c28"}
HAIR = {"black": "#211c1a", "brown": "#6f3c17", "blond": "#e8c46a", "red": "#cf4520", "grey": "#b3b3b3"}
HAIR |= {"blue": "#3f74d8", "pink": "#f07fb2", "green": "#3fa65a"}
CLOTHES = {"red": "#e4572e", "orange": "#f2a93b", "cream": "#f6e0a4", "green": "#76b041", "teal": "#17806d"}
CLOTHES |= {"blue": "#2e86ab", "purple": "#5b4b8a", "rose": "#d1495b", "grey": "#4a4a55"}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "skin": tuple(SKIN),
    "hair": ("none", *HAIR),
    "cut": ("bald", "short", "curly", "mohawk", "long"),
    "glasses": ("no", "yes"),
    "mouth": ("smile", "laugh", "sad"),
}
"""Attribute → its values. Hair is ``none`` exactly for the bald."""

PARTS = ("background", "rest", "skin", "hair", "clothes")
"""Classes of the part masks; ``rest`` is eyes, mouth, glasses and outlines."""


@dataclass(frozen=True)
class Person:
    """Who is drawn: values of :data:`ATTRIBUTES`, and a seed that decides what they leave open."""

    skin: str
    hair: str
    cut: str
    glasses: str
    mouth: str
    seed: str = "0"

    @property
    def clothes(self) -> str:
        """Their colour, a key of ``CLOTHES``, the same in all styles; ``big-smile`` draws none, and in ``voxel-art`` a
        jacket of another colour often covers them."""
        return list(CLOTHES)[int.from_bytes(hashlib.sha256(self.seed.encode()).digest()[:2]) % len(CLOTHES)]


def _variants(component: str, also: Mapping[str, Any] | None = None, **of: str | list[str]) -> dict[str, dict]:
    """Attribute value → the option that chooses these variants of ``component``, with further options."""
    return {value: {f"{component}Variant": variant} | dict(also or {}) for value, variant in of.items()}


def _glasses(component: str = "glasses", **of: Any) -> dict[str, dict]:
    """The options with and without glasses, where these are a component of their own."""
    return {"no": {f"{component}Probability": 0}, "yes": {f"{component}Probability": 100} | of}


@dataclass(frozen=True)
class PeopleStyle:
    """How one DiceBear style draws a person: ``fixed`` options hold for everybody; ``cut``, ``mouth``, ``glasses`` are
    attribute value → options, where a list leaves the choice to the seed; ``skin``, ``hair``, ``clothes`` are the names
    of the style's colours that show this part."""

    fixed: dict
    cut: dict[str, dict]
    mouth: dict[str, dict]
    glasses: dict[str, dict] = field(default_factory=_glasses)
    skin: tuple[str, ...] = ("skin",)
    hair: tuple[str, ...] = ("hair",)
    clothes: tuple[str, ...] = ("clothing",)


STYLES: dict[str, PeopleStyle] = {
    "personas": PeopleStyle(
        {"facialHairProbability": 0, "clothesVariant": ["checkered", "rounded", "squared"]}
        | {"scale": 1.1, "translateY": 4},
        cut=_variants("hair", bald="bald", short="shortCombover", curly="curly", mohawk="mohawk", long="extraLong"),
        mouth=_variants("mouth", smile="smile", laugh="bigSmile", sad="frown"),
        glasses=_variants("eyes", no=["happy", "open", "sleep", "wink"], yes="glasses"),
    ),
    "micah": PeopleStyle(
        {"facialHairProbability": 0, "earringsProbability": 0, "hairProbability": 100, "glassesColor": "#1a1a1a"}
        | {"eyesVariant": ["eyes", "round", "smiling"], "eyeShadowColor": "#ffffff"},
        cut=_variants("hair", bald="mrClean", short="fonze", curly="curly", mohawk="mrT", long="full"),
        mouth=_variants("mouth", smile="smile", laugh="laughing", sad="frown"),
        skin=("base",),
        clothes=("shirt",),
    ),
    "big-smile": PeopleStyle(
        {"eyesVariant": ["cheery", "normal", "sleepy", "starstruck", "winking"]},
        cut=_variants("hair", bald="none", short="shortHair", curly="curlyShortHair", mohawk="mohawk")
        | _variants("hair", long="straightHair"),
        mouth=_variants("mouth", smile="teethSmile", laugh="openedSmile", sad="openSad"),
        glasses=_glasses("accessories", accessoriesVariant="glasses"),
        clothes=(),
    ),
    "pixel-art": PeopleStyle(
        {"accessoriesProbability": 0, "beardProbability": 0, "hatProbability": 0, "mouthColor": "#c4302b"}
        | {"clothesVariant": [f"variant{k:02d}" for k in (1, 3, 4, 6, 8, 11, 12, 13, 23)]},
        cut=_variants("hair", bald="none", short="short16", curly="long15", mohawk="mohawk", long="long12"),
        mouth=_variants("mouth", smile="happy09", laugh="happy12", sad="sad01"),
        glasses=_glasses(glassesVariant=["light05", "light06"], glassesColor="#191919"),
    ),
    "voxel-art": PeopleStyle(
        {"backgroundColor": [], "animationVariant": "none", "beardProbability": 0, "cheeksProbability": 0}
        | {"eyesVariant": ["open", "soft", "happy", "side", "closed", "wide"], "scale": 1.35, "translateY": 14},
        cut={"bald": {"topProbability": 0}}
        | _variants("top", {"topProbability": 100}, short="short", curly="afro", mohawk="mohawk", long="longStraight"),
        mouth=_variants("mouth", smile="wideSmile", laugh="laugh", sad="frown"),
        glasses=_glasses(glassesVariant=["round", "square"]),
        clothes=("shirt", "pants", "shoes", "jacket"),
    ),
    "toon-head": PeopleStyle(
        {"beardProbability": 0, "eyesVariant": ["bow", "happy", "humble", "wide", "wink"]},
        cut={"bald": {"hairProbability": 0, "rearHairProbability": 0}}
        | _variants("hair", {"rearHairProbability": 0}, short="sideComed", curly="curly", mohawk="mohawk")
        | _variants("hair", {"rearHairProbability": 100, "rearHairVariant": "longStraight"}, long="sideComed"),
        mouth=_variants("mouth", smile="smile", laugh="laugh", sad="sad"),
        clothes=("clothes",),
    ),
}
"""What draws each attribute value in each style; a style more is an entry more."""


def _element(name: str, **attributes: object) -> dict:
    return {"name": name, "type": "element", "attributes": {k.replace("_", "-"): v for k, v in attributes.items()}}


_HAIR = {"type": "color", "name": "hair"}


def _curls(x: float, y: float, radius: float, curl: float, start: int, stop: int, line: float) -> list[dict]:
    """A head of curls: outlined circles on an arc around (x, y), and a filled inside."""
    found, outline = [], {"stroke": "black", "stroke_width": str(line)}
    for distance, size, step, style in ((1, 1, 25, outline), (0.9, 0.9, 25, {}), (0.62, 0.75, 30, {})):
        for angle in map(math.radians, range(start, stop + 1, step)):
            cx, cy = x + distance * radius * math.cos(angle), y - distance * radius * math.sin(angle)
            place = {"cx": f"{cx:.1f}", "cy": f"{cy:.1f}", "r": f"{size * curl:.1f}"}
            found.append(_element("circle", **place, fill=_HAIR, **style))
    return found


def _toon_glasses() -> list[dict]:
    line = {"stroke": "#1a1a1a", "stroke_width": "14", "fill": "none"}
    rims = [_element("circle", cx=str(x), cy="56", r="56", fill="white", fill_opacity=".25") for x in (62, 200)]
    rims += [_element("circle", cx=str(x), cy="56", r="56", **line) for x in (62, 200)]
    return [*rims, _element("path", d="M118 50q13-12 26 0M6 48l-40-12M256 48l40-12", **line)]


_PATH = "M176 262C158 190 152 110 178 34q48-26 96 0c26 76 20 156 2 228q-50-34-100 0Z"
_TOON_MOHAWK = _element("path", d=_PATH, fill=_HAIR, stroke="black")
ADDITIONS: dict[str, dict[str, dict[str, list[dict]]]] = {
    "micah": {"hair": {"curly": _curls(148, 98, 74, 28, 5, 215, 4)}},
    "big-smile": {"hair": {"none": []}},
    "pixel-art": {"hair": {"none": [], "mohawk": [_element("path", d="M7 0h2v1h1v2H6V1h1z", fill=_HAIR)]}},
    "toon-head": {
        "hair": {"curly": _curls(226, 320, 178, 62, -5, 185, 1), "mohawk": [_TOON_MOHAWK]},
        "glasses": {"round": _toon_glasses()},
    },
}
"""Style → component → variant → shapes that the course adds, because the style lacks this attribute value."""
_MOUTHS = {"toon-head": "translate(296 474) scale(1.5)", "voxel-art": "translate(11 71) scale(1.6)"}
"""Style → where its mouth is drawn instead, so large that 64 pixels can show it."""


def _elements(tree: list[dict]) -> Iterator[dict]:
    for element in tree:
        yield element
        yield from _elements(element.get("children", []))


def _retouch(name: str, definition: dict) -> dict:
    """The definition with :data:`ADDITIONS`, and with mouths and lines that 64 pixels can show."""
    components, canvas = definition["components"], definition["canvas"]["elements"]
    for component, variants in ADDITIONS.get(name, {}).items():
        target = components.setdefault(component, {"width": 262, "height": 112, "variants": {}})
        target["variants"] |= {variant: {"elements": elements} for variant, elements in variants.items()}
    for element in _elements(canvas):
        if element["name"] == "mouth" and name in _MOUTHS:
            element["attributes"]["transform"] = _MOUTHS[name]
    if name == "toon-head":
        place = next(k for k, element in enumerate(canvas) if element["name"] == "eyes")
        glasses = {"name": "glasses", "type": "component", "attributes": {"transform": "translate(253 352)"}}
        canvas.insert(place + 1, glasses)
        for variant in components["mouth"]["variants"].values():
            for element in _elements(variant["elements"]):
                if element["attributes"].get("fill-opacity") == ".5":
                    element["attributes"]["fill-opacity"] = "1"
    if name == "micah":
        for variant in components["glasses"]["variants"].values():
            for element in _elements(variant["elements"]):
                element["attributes"]["stroke-width"] = "7"
    return definition


@lru_cache(maxsize=64)
def _definition(name: str) -> Any:
    from dicebear import Style

    return Style(_retouch(name, json.loads(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8"))))


def render(style: str, options: dict, size: int = 64) -> np.ndarray:
    """Draws one avatar of a DiceBear style: ``uint8 (size, size, 4)``, colour and opacity."""
    import resvg_py
    from dicebear import Avatar

    svg = Avatar(_definition(style), options | {"size": size}).to_string()
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


def on_white(picture: np.ndarray) -> np.ndarray:
    """``uint8 (H, W, 3)``: an RGBA picture laid on white."""
    opacity = picture[..., 3:].astype(np.uint16)
    return ((picture[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def options_of(person: Person, style: str) -> dict:
    """The generator's options for this person in this style; what they leave open follows from the seed."""
    table = STYLES[style]
    options = {"seed": person.seed} | table.fixed | table.cut[person.cut]
    options |= table.glasses[person.glasses] | table.mouth[person.mouth]
    options |= {f"{name}Color": SKIN[person.skin] for name in table.skin}
    options |= {f"{name}Color": HAIR.get(person.hair, HAIR["black"]) for name in table.hair}
    colours, first = list(CLOTHES.values()), list(CLOTHES).index(person.clothes)
    return options | {f"{name}Color": colours[(first + 2 * k) % len(colours)] for k, name in enumerate(table.clothes)}


def draw(person: Person, style: str, size: int = 64) -> np.ndarray:
    """``uint8 (size, size, 3)``: the person in this style, on white."""
    return on_white(render(style, options_of(person, style), size))


def draw_parts(person: Person, style: str, picture: np.ndarray) -> np.ndarray:
    """``uint8 (S, S)``: which of :data:`PARTS` covers most of each pixel of ``picture``, which :func:`draw` gave.

    The avatar is drawn again with the skin's red, the hair's green and the clothes' blue changed. Colours blend channel
    by channel, so how far a channel of a pixel moves is the share of the pixel that this part covers."""
    table, options = STYLES[style], options_of(person, style)
    for channel, names in enumerate((table.skin, table.hair, table.clothes)):
        for name in names:
            colour = int(options[f"{name}Color"][1:], 16)
            options[f"{name}Color"] = f"#{colour ^ (0x800000 >> (8 * channel)):06x}"  # by half of the channel's range
    recoloured = render(style, options, len(picture))
    share = np.abs(on_white(recoloured).astype(np.float32) - picture) / 128
    opacity = recoloured[..., 3] / 255
    return np.stack([1 - opacity, opacity - share.sum(-1), *np.moveaxis(share, -1, 0)]).argmax(0).astype(np.uint8)


def combinations() -> list[tuple[str, ...]]:
    """All 990 combinations of attribute values, in a fixed order: the bald have no hair colour."""
    return [one for one in product(*ATTRIBUTES.values()) if (one[1] == "none") == (one[2] == "bald")]


def people() -> tuple[list[Person], list[int]]:
    """The course's 3,180 people, three of every combination and ten of the bald ones, and for each 0 train, 1 val, 2
    test. A tenth of the combinations of every cut is val and another tenth test, by the order of their SHA-256, which
    no one can tune: whoever is in test has a combination of attributes that was never trained on."""
    order = sorted(combinations(), key=lambda combination: hashlib.sha256("-".join(combination).encode()).digest())
    seen: Counter[str] = Counter()
    found, split = [], []
    for combination in order:
        cut = combination[2]
        numbers = range(10 if cut == "bald" else 3)
        found += [Person(*combination, seed="-".join((*combination, str(number)))) for number in numbers]
        split += [{3: 1, 8: 2}.get(seen[cut] % 10, 0)] * len(numbers)
        seen[cut] += 1
    return found, split


_MOUTH = {"smile": ("smiling", "smiles", "a smile"), "laugh": ("laughing", "laughs", "a laugh")}
_MOUTH |= {"sad": ("sad", "looks sad", "a sad mouth")}


def captions(person: Person) -> list[str]:
    """Eight sentences about a person, each of which names all attributes and nothing else."""
    adjective, verb, noun = _MOUTH[person.mouth]
    skin = f"{person.skin} skin"
    hair = {"bald": "no hair", "mohawk": f"a {person.hair} mohawk"}.get(person.cut, f"{person.cut} {person.hair} hair")
    glasses, wearing, wears = "no glasses", "without glasses", "wears no glasses"
    if person.glasses == "yes":
        glasses, wearing, wears = "glasses", "wearing glasses", "wears glasses"
    return [
        f"a {adjective} person with {hair} and {glasses}, {skin}",
        f"{skin}, {hair}, {glasses}, {noun}",
        f"someone with {skin} and {hair} who {wears} and {verb}",
        f"this person has {skin}, {hair} and {noun}, and {wears}",
        f"portrait: {noun}, {hair}, {skin}, {wearing}",
        f"a person {wearing}, with {noun}, {skin} and {hair}",
        f"{hair} and {noun} on a face with {skin}, {wearing}",
        f"a {adjective} face with {skin}, {wearing}, with {hair}",
    ]


WORDINGS = 5
"""How many ways :func:`partial_caption` knows to say the same."""


def partial_caption(named: Mapping[str, str], wording: int = 0) -> str:
    """A sentence that names some attributes of a person (attribute → value) and leaves the others open."""
    adjective, verb, noun = _MOUTH.get(named.get("mouth", ""), ("", "", ""))
    hair, cut = named.get("hair", ""), named.get("cut", "")
    parts = [f"{named['skin']} skin"] if "skin" in named else []
    if cut == "bald" or hair == "none":
        parts.append("no hair")
    elif cut == "mohawk":
        parts.append(f"a {hair} mohawk".replace("  ", " "))
    elif hair or cut:
        parts.append(f"{cut} {hair} hair".strip().replace("  ", " "))
    if "glasses" in named:
        parts.append({"yes": "glasses", "no": "no glasses"}[named["glasses"]])
    if wording % 2:
        parts.reverse()
    if wording == 4 and verb:
        return f"someone who {verb}" + (f", with {_listed(parts)}" if parts else "")
    if wording in (1, 2):
        parts = [*parts, noun] if noun else parts
        return (", ".join(parts) if wording == 1 else f"a person with {_listed(parts)}") if parts else "a person"
    subject = f"a {adjective} {'face' if wording == 3 else 'person'}".replace("  ", " ")
    return f"{subject} with {_listed(parts)}" if parts else subject


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
