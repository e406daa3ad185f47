"""Attributes that Unicode writes into the code points of an emoji: skin tone, gender, age, hair.

Source: Unicode Technical Standard 51 (emoji modifiers, gender and hair sequences).
"""

__all__ = ["ATTRIBUTES", "attributes_of", "base_code"]

ATTRIBUTES = {
    "skin_tone": ("none", "light", "medium-light", "medium", "medium-dark", "dark", "mixed"),
    "gender": ("none", "woman", "man"),
    "age": ("none", "child", "adult", "old"),
    "hair": ("none", "blond", "red", "curly", "white", "bald", "beard"),
}
_TONES = dict(zip(("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"), ATTRIBUTES["skin_tone"][1:6], strict=True))
_HAIR = {
    "1f471": "blond",
    "1f9b0": "red",
    "1f9b1": "curly",
    "1f9b3": "white",
    "1f9b2": "bald",
    "1f9d4": "beard",
}
_WOMEN = {"2640", "1f469", "1f467", "1f475", "1f478", "1f936", "1f470", "1f483", "1f930"}
_MEN = {"2642", "1f468", "1f466", "1f474", "1f934", "1f385", "1f57a", "1f935"}
_SIGNS = {"2640", "2642"}
_CHILD, _OLD = {"1f476", "1f9d2", "1f466", "1f467"}, {"1f9d3", "1f474", "1f475"}
_ADULT = {"1f468", "1f469", "1f9d1"}
_NEUTRAL = {
    "1f468": "1f9d1",
    "1f469": "1f9d1",
    "1f466": "1f9d2",
    "1f467": "1f9d2",
    "1f474": "1f9d3",
    "1f475": "1f9d3",
}


def attributes_of(code: str) -> dict[str, str]:
    """Attributes of one emoji, each a value of :data:`ATTRIBUTES`.

    Args:
        code: lower-case code points joined by hyphens, without variation selectors.
    """
    parts = code.split("-")
    tones = {_TONES[part] for part in parts if part in _TONES}
    # An explicit sign decides; without one the first person does (a bride is not two people of two genders).
    signs = [part for part in parts if part in _SIGNS] or parts[:1]
    gender = next((name for name, members in (("woman", _WOMEN), ("man", _MEN)) if signs[0] in members), "none")
    ages = (("child", _CHILD), ("old", _OLD), ("adult", _ADULT))
    return {
        "skin_tone": "none" if not tones else tones.pop() if len(tones) == 1 else "mixed",
        "gender": gender,
        "age": next((name for name, members in ages if parts[0] in members), "none"),
        "hair": next((_HAIR[part] for part in parts if part in _HAIR), "none"),
    }


def base_code(code: str) -> str:
    """The emoji without skin tone, gender and walking direction: what a fair split must keep on one side.

    A woman firefighter and a man firefighter are almost the same picture, so they share a base.
    """
    parts = [_NEUTRAL.get(part, part) for part in code.split("-") if part not in _TONES]
    kept: list[str] = []
    for part in parts:
        if part in _SIGNS or part == "27a1":
            if kept and kept[-1] == "200d":
                kept.pop()
        else:
            kept.append(part)
    return "-".join(kept) or code
