"""Captions of an emoji: its name, its name with tags, and keyword sentences."""

__all__ = ["captions_of"]


def _words(names: list[str], exclude: str) -> list[str]:
    """Readable keywords, in order, without repeats, emoticons and the words of the name itself."""
    seen, words = {exclude.lower()}, []
    for name in names:
        word = name.replace("_", " ").strip()
        if word.lower() in seen or not any(character.isalpha() for character in word) or len(word) < 3:
            continue
        seen.add(word.lower())
        words.append(word)
    return words


def captions_of(name: str, tags: list[str], keywords: list[str]) -> list[str]:
    """Several descriptions of one picture, most specific first.

    Args:
        name: the Unicode name, such as ``nerd face``.
        tags: Emojibase tags.
        keywords: emojilib keywords, words joined by underscores.

    Returns:
        Two to four captions. The first is always the name.
    """
    captions = [name]
    tags, keywords = _words(tags, name), _words(keywords, name)
    if tags:
        captions.append(f"{name}, {', '.join(tags[:4])}")
        captions.append(f"a picture about {', '.join(tags[:3])}: {name}")
    if keywords:
        captions.append(f"{name} with {', '.join(keywords[:3])}")
    return captions if len(captions) > 1 else [name, f"a picture of {name}"]
