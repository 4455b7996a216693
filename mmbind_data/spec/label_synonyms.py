"""Wordings of one activity that sentence models take for another.

A small sentence model knows that "biking" is "cycling", but puts "climbing stairs down" nearer to
"upstairs" than to "downstairs", and cannot read "climbingup". Stairs occur in most datasets of
daily activities, under another name in each: these names are read by rule, not by a model.
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
    """``upstairs`` or ``downstairs`` if a text says this and nothing else, however it is written.

    All of its words must be understood: "carrying a box upstairs" is another activity. Climbing
    without a direction is up where stairs are named.
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
    """A label map, and what is known about the labels that it does not name.

    Parameters
    ----------
    label_map : mapping of str to str
        The user's own words: they stand. Where one is a label of the data, it means that label,
        and is compared in the same words.
    labels : iterable of str
        Labels of all stores.
    """
    said = {text: synonym_of(text) for text in sorted(set(labels) - set(label_map))}
    known = {text: word for text, word in said.items() if word not in (None, text)}
    return known | {text: known.get(word, word) for text, word in label_map.items()}


def synonym_map(*binder: BinderInfo) -> dict[str, str]:
    """The words that labels were given before bindings compared them; of later bindings first."""
    found: dict[str, str] = {}
    for one in binder:
        label_map = one.embedding.get("label_map")
        if isinstance(label_map, dict):
            found |= {text: str(word) for text, word in label_map.items()}
    return found


def canonical_label(text: str, wordings: Mapping[str, str]) -> str:
    """A label in the words that it was given, or that are known, or its own.

    >>> canonical_label("walk", {"walk": "stroll"}), canonical_label("climbingup", {})
    ('stroll', 'upstairs')
    """
    return wordings.get(text) or synonym_of(text) or text
