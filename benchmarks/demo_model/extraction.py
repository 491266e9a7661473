"""Extraction: a sentence about somebody, and the wanted fields of it as a JSON object."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.demo_model.chat import Example, to_json, turn
from benchmarks.demo_model.draw import Draw
from benchmarks.demo_model.words import COLORS, FOODS, JOBS, PETS, city, name, word

Fields = dict[str, str | int]

_CLAUSES = {
    "age": ["is {} years old", "is {}", "is aged {}"],
    "city": ["lives in {}", "comes from {}", "is from {}", "has a house in {}"],
    "job": ["is a {}", "works as a {}"],
    "color": ["likes the color {}", "loves {} things"],
    "food": ["likes to eat {}", "eats {}", "loves {}"],
    "pet": ["has a {}", "owns a {}"],
}


def _values(draw: Draw) -> Fields:
    """A person with two to four known things."""
    values: Fields = {"name": draw.item("person", lambda: name(draw))}
    made: dict[str, Callable[[], str | int]] = {
        "age": lambda: draw.number(1, 99),
        "city": lambda: city(draw).split(",")[0],
        "job": lambda: draw.one(JOBS) if draw.chance(0.8) else word(draw),
        "color": lambda: draw.one(COLORS),
        "food": lambda: draw.one(FOODS),
        "pet": lambda: draw.one(PETS) if draw.chance(0.8) else word(draw),
    }
    for key in draw.some(sorted(made), draw.number(1, 3)):
        values[key] = made[key]()
    if draw.chance(0.6):
        values["age"] = draw.number(1, 99)
    return values


def _sentence(draw: Draw, values: Fields) -> str:
    keys = [key for key in values if key != "name"]
    draw.rng.shuffle(keys)
    clauses = [draw.one(_CLAUSES[key]).format(values[key]) for key in keys]
    person = values["name"]
    if len(clauses) == 1:
        return f"{person} {clauses[0]}."
    if draw.chance(0.5):
        return f"{person} {', '.join(clauses[:-1])} and {clauses[-1]}."
    return f"{person} {clauses[0]}. {person} {' and '.join(clauses[1:])}."


def _list(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else ", ".join(keys[:-1]) + " and " + keys[-1]


def extract(draw: Draw) -> Example:
    """Fields of a sentence as JSON, in the order in which they were asked for."""
    values = _values(draw)
    text, keys = _sentence(draw, values), list(values)
    draw.rng.shuffle(keys)
    if "name" in keys and draw.chance(0.6):
        keys.remove("name")
        keys.insert(0, "name")
    keys = keys[: draw.number(max(1, len(keys) - 1), len(keys))]
    wanted = _list(keys)
    ask = draw.one(
        ["Extract the {k} as JSON: {t}", "Extract {k} from this text as JSON: {t}",
         "Extract the {k} from this sentence and answer with JSON.\n{t}",
         "{t}\nGive me the {k} as a JSON object.", "{t} Extract the {k} as JSON.",
         "Return a JSON object with the {k}: {t}", "Make JSON with the keys {k}. {t}",
         "Read this: {t} Answer in JSON with {k}.", "{t}\nWrite the {k} as JSON."]
    )  # fmt: skip
    return turn(ask.format(k=wanted, t=text), to_json({key: values[key] for key in keys}))
