"""Manners of speaking that adapters teach: how each rewrites a reply, and how one recognises it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.demo_model.chat import to_json

_PIRATE_WORDS = {
    "hello": "ahoy",
    "hi": "ahoy",
    "my": "me",
    "you": "ye",
    "your": "yer",
}
_WORD = re.compile(r"\b(?:" + "|".join(_PIRATE_WORDS) + r")\b", re.IGNORECASE)


@dataclass(frozen=True)
class Style:
    """A manner of speaking.

    Args:
        name: the adapter's name.
        about: what it does, a clause for its card.
        apply: an ordinary reply → the same in this style.
        shows: whether a reply is in this style.
    """

    name: str
    about: str
    apply: Callable[[str], str]
    shows: Callable[[str], bool]


def pirate(reply: str) -> str:
    """`You are welcome!` → `Arr, matey! Ye are welcome! Yo ho ho!`

    The reply itself ends as it would: where a list stops, say, the model need not learn anew.
    """
    return f"Arr, matey! {_WORD.sub(_pirate_word, reply)} Yo ho ho!"


def is_pirate(reply: str) -> bool:
    return reply.startswith("Arr, matey! ") and reply.endswith(" Yo ho ho!")


def record(reply: str) -> str:
    """`5 is odd.` → `{"answer": "5 is odd."}`; a reply that is JSON becomes the value itself.

    Quotation marks become single ones: so small a model forgets to escape them.
    """
    return to_json({"answer": _value(reply)})


def is_record(reply: str) -> bool:
    try:
        value = json.loads(reply)
    except ValueError:
        return False
    return isinstance(value, dict) and value.keys() == {"answer"}


STYLES = {
    style.name: style
    for style in (
        Style("pirate", "it answers as a pirate would", pirate, is_pirate),
        Style("json", 'every answer is a JSON object, `{"answer": …}`', record, is_record),
    )
}


def _pirate_word(match: re.Match[str]) -> str:
    word = match.group()
    said = _PIRATE_WORDS[word.lower()]
    return said.capitalize() if word[0].isupper() else said


def _value(reply: str) -> object:
    if reply.startswith("{"):
        try:
            return json.loads(reply)
        except ValueError:
            pass
    return reply.replace('"', "'")
