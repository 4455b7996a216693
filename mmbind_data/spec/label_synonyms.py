"""Labels that name the same activity in words that sentence models confuse.

A small sentence model knows that "biking" is "cycling", but places "climbing stairs down" nearer to
"upstairs" than to "downstairs", and cannot split "climbingup". Most datasets of daily activities
have stairs, each under another name: these names are recognised by rules, not by a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mmbind_data.spec.store import BinderInfo

UPSTAIRS, DOWNSTAIRS = "upstairs", "downstairs"
_UP = re.compile(r"up(wards?)?|ascen(d|ds|ding|t)")
_DOWN = re.compile(r"down(wards?)?|descen(d|ds|ding|t)")
_STAIRS = re.compile(r"stairs?(case|way)?|steps|flight")
_CLIMB = re.compile(r"climb(ing|s)?")
_REST = re.compile(r"walk(ing|s)?|go(ing|es)?|of|the|a|on")
_WORDS = re.compile(
    "(" + "|".join(word.pattern for word in (_UP, _DOWN, _STAIRS, _CLIMB, _REST)) + ")+"
)
_BETWEEN = re.compile(r"[\W_]+")


def synonym_of(text: str) -> str | None:
    """``upstairs`` or ``downstairs`` if a text means this and nothing else, in any spelling.

    All of its words must be known: "carrying a box upstairs" is another activity. Climbing stairs
    without a direction is up.
    """
    letters = _BETWEEN.sub("", text.lower())
    if not _WORDS.fullmatch(letters):
        return None
    up, down, stairs, climb = (bool(word.search(letters)) for word in (_UP, _DOWN, _STAIRS, _CLIMB))
    if (up and down) or not (stairs or climb):
        return None
    if down:
        return DOWNSTAIRS
    return UPSTAIRS if up or (stairs and climb) else None


def with_synonyms(label_map: Mapping[str, str], labels: Iterable[str]) -> dict[str, str]:
    """A label map with the known synonyms of the labels that it does not contain.

    Parameters
    ----------
    label_map : mapping of str to str
        The user's own words, which have priority. A word that is a label of the data means that
        label and gets its synonym.
    labels : iterable of str
        Labels of all stores.
    """
    synonyms = {text: synonym_of(text) for text in sorted(set(labels) - set(label_map))}
    known = {text: word for text, word in synonyms.items() if word not in (None, text)}
    return known | {text: known.get(word, word) for text, word in label_map.items()}


def synonym_map(*binder: BinderInfo) -> dict[str, str]:
    """The label maps of bindings as one; later bindings have priority."""
    maps = [step.embedding.get("label_map") for step in binder]
    pairs = [pair for found in maps if isinstance(found, dict) for pair in found.items()]
    return {text: str(word) for text, word in pairs}


def canonical_label(text: str, wordings: Mapping[str, str]) -> str:
    """A label in the words of a label map, of a known synonym, or its own.

    >>> canonical_label("walk", {"walk": "stroll"}), canonical_label("climbingup", {})
    ('stroll', 'upstairs')
    """
    return wordings.get(text) or synonym_of(text) or text
