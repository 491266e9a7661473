"""Tool use: invented tools, questions that need one, the call, and the answer to its reply."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.demo_model.chat import Example, Message, Tool, call, to_json
from benchmarks.demo_model.draw import Draw
from benchmarks.demo_model.words import (
    COLORS,
    DAYS,
    LANGUAGES,
    city,
    listed,
    made_up,
    name,
    phrase,
    word,
)

_VERBS = listed("""
get find search fetch check lookup show book order send create delete set start stop
list play read open update cancel count track plan buy query""")
_THINGS = listed(
    """
weather|time|flight|hotel|restaurant|train|ticket|news|price|stock|recipe|movie|song|
book|event|meeting|reminder|alarm|timer|email|message|note|contact|address|route|map|taxi|pizza|
order|invoice|payment|balance|account|user|file|document|photo|video|temperature|forecast|traffic|
light|door|camera|score|game|team|player|lesson|word|doctor|appointment|package|delivery|shop|
product|museum|park|bus|ferry|car|bike|job|task|report|current weather|exchange rate|phone number|
shopping list|air quality|bank account|local time|train schedule|room""",
    "|",
)
_LINKS = {
    "city": ["in {}", "for {}", "at {}", "near {}"],
    "person": ["for {}", "of {}", "by {}"],
    "day": ["on {}", "for {}"],
    "language": ["in {}"],
}
_PARAMETERS: dict[str, list[str]] = {
    "city": listed("city location place town destination area"),
    "person": listed("name person user customer owner author"),
    "day": listed("day date weekday"),
    "language": ["language", "target_language"],
    "text": listed("query text title topic subject keyword item"),
    "number": listed("count number amount quantity limit minutes id size price level"),
    "color": ["color"],
}
_HINTS = {
    "city": "The city", "person": "The person", "day": "The day", "language": "The language",
    "text": "The text", "number": "The number", "color": "The color",
}  # fmt: skip
_VALUES: dict[str, Callable[[Draw], str | int]] = {
    "city": city,
    "person": name,
    "day": lambda draw: draw.one(DAYS) if draw.chance(0.6) else draw.one(("today", "tomorrow")),
    "language": lambda draw: draw.one(LANGUAGES),
    "text": lambda draw: phrase(draw, 1, 3),
    "number": lambda draw: draw.number(0, draw.one((9, 99, 999))),
    "color": lambda draw: draw.one(COLORS),
}


@dataclass(frozen=True)
class Function:
    """A tool that never existed: what it is called, says and takes."""

    verb: str
    thing: str
    name: str
    parameters: dict[str, str]
    schema: Tool


def _parameters(draw: Draw) -> dict[str, str]:
    """Parameter names with their kinds, one to three."""
    kinds = draw.some(sorted(_PARAMETERS), draw.weighted((1, 2, 3), (6, 4, 1)))
    if draw.chance(0.3):
        kinds[0] = "city"
    made = {}
    for kind in dict.fromkeys(kinds):
        made[draw.one(_PARAMETERS[kind]) if draw.chance(0.85) else made_up(draw)] = kind
    return made


def _hint(draw: Draw, kind: str) -> str:
    """A parameter's description; its example must not be taken for the value."""
    about = _HINTS[kind]
    return draw.one(
        (f"{about}.", about, f"{about}, e.g. {_VALUES[kind](draw)}", f"{about} to use",
         phrase(draw, 2, 5).capitalize())
    )  # fmt: skip


def _about(draw: Draw, verb: str, thing: str) -> str:
    """A tool's description."""
    start = f"{verb.capitalize()} {draw.one(('the', 'a', 'the', 'the current'))} {thing}"
    ends = (".", ".", "", " for the user.", " for a given place.", f" of the {word(draw)}")
    return start + draw.one(ends)


def _schema(draw: Draw, name: str, about: str, parameters: dict[str, str]) -> Tool:
    properties: dict[str, Any] = {}
    for key, kind in parameters.items():
        kind_name = draw.one(("integer", "number")) if kind == "number" else "string"
        properties[key] = {"type": kind_name}
        if draw.chance(0.3):
            properties[key]["description"] = _hint(draw, kind)
    required = list(properties)
    if draw.chance(0.15):
        properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    elif draw.chance(0.1):
        properties[draw.one(("verbose", "limit_to", "format", "mode"))] = {"type": "string"}
    shape: dict[str, Any] = {"type": "object", "properties": properties}
    if draw.chance(0.85) or len(properties) > len(required):
        shape["required"] = required
    if draw.chance(0.1):
        shape["additionalProperties"] = False
    function: dict[str, Any] = {"name": name}
    if draw.chance(0.75):
        function["description"] = about
    function["parameters"] = shape
    return {"type": "function", "function": function}


def function(draw: Draw, skill: str = "tool") -> Function:
    """A new tool; its name and its parameters' names together decide the split."""

    def make() -> tuple[str, str]:
        thing = draw.one(_THINGS) if draw.chance(0.75) else made_up(draw)
        return draw.one(_VERBS), thing

    verb, thing = draw.item(skill, make)
    snake = f"{verb}_{thing.replace(' ', '_')}"
    name = snake
    if draw.chance(0.1):
        head, *rest = snake.split("_")
        name = head + "".join(part.capitalize() for part in rest)
    parameters = _parameters(draw)
    schema = _schema(draw, name, _about(draw, verb, thing), parameters)
    return Function(verb, thing, name, parameters, schema)


def _clause(draw: Draw, parameter: str, kind: str, value: str | int) -> str:
    if kind in _LINKS and draw.chance(0.75):
        return draw.one(_LINKS[kind]).format(value)
    shown = f'"{value}"' if kind == "text" and draw.chance(0.5) else str(value)
    forms = ["with {p} {v}", "with the {p} {v}", "with {p} set to {v}", "using {p} {v}"]
    return draw.one(forms).format(p=parameter.replace("_", " "), v=shown)


def _ask(draw: Draw, tool: Function, clauses: str) -> str:
    """The user's sentence for one call."""
    verb, thing = tool.verb, tool.thing
    if verb in ("get", "find", "fetch", "check", "lookup", "show") and draw.chance(0.5):
        return draw.one(
            ["What is the {t} {c}?", "What's the {t} {c}?", "What's the {t} like {c}?",
             "Tell me the {t} {c}.", "How is the {t} {c}?", "I need the {t} {c}.",
             "What is the {t} {c} now?", "Do you know the {t} {c}?"]
        ).format(t=thing, c=clauses)  # fmt: skip
    spoken = "look up" if verb == "lookup" else verb
    ask = draw.one(
        ["{v} the {t} {c}.", "{v} a {t} {c}.", "Please {v} the {t} {c}.",
         "Can you {v} the {t} {c}?", "Please {v} a {t} {c}.", "I want to {v} a {t} {c}.",
         "Could you {v} a {t} {c}?", "Use {n} to {v} the {t} {c}.", "{v} {t} {c}"]
    ).format(v=spoken, t=thing, c=clauses, n=tool.name)  # fmt: skip
    return ask[0].upper() + ask[1:]


def _request(draw: Draw, tool: Function) -> tuple[str, list[dict[str, Any]]]:
    """A question, and the call or the two calls that it needs."""
    values = {key: _VALUES[kind](draw) for key, kind in tool.parameters.items()}
    kinds = list(tool.parameters.values())
    if kinds == ["city"] and draw.chance(0.15):
        other = city(draw)
        key = next(iter(values))
        question = _ask(draw, tool, f"in {values[key]} and in {other}")
        return question, [call(tool.name, values), call(tool.name, {key: other})]
    clauses = [_clause(draw, key, tool.parameters[key], value) for key, value in values.items()]
    draw.rng.shuffle(clauses)
    return _ask(draw, tool, " ".join(clauses)), [call(tool.name, values)]


def _reply(draw: Draw, thing: str) -> tuple[str, str]:
    """What a tool sends back, and the sentence that tells the user."""

    def value() -> str | int | bool:
        choices: tuple[str | int | bool, ...] = (
            draw.number(0, 999), word(draw), phrase(draw, 1, 3), name(draw), draw.number(0, 40),
            draw.one(("sunny", "rainy", "cloudy", "ok", "done")), draw.chance(0.5),
        )  # fmt: skip
        return draw.one(choices)

    if draw.chance(0.2):
        text = draw.one((phrase(draw, 1, 4), f"{value()}", f"{draw.number(0, 40)} degrees"))
        return text, f"The result is {text}."
    keys = ["result", "status", "temperature", "condition", "answer", "price", "name", "message"]
    keys += ["error", "time", "city", "count", thing.replace(" ", "_"), made_up(draw)]
    pairs = {key: value() for key in draw.some(keys, draw.weighted((1, 2, 3), (5, 4, 1)))}
    told = [f"the {key.replace('_', ' ')} is {to_json(v).strip(chr(34))}" for key, v in
            pairs.items()]  # fmt: skip
    sentence = told[0] if len(told) == 1 else ", ".join(told[:-1]) + " and " + told[-1]
    text = (
        json.dumps(pairs, ensure_ascii=False, separators=(",", ":"))
        if draw.chance(0.2)
        else to_json(pairs)
    )
    return text, sentence[0].upper() + sentence[1:] + "."


def offered(draw: Draw, wanted: Function | None) -> list[Tool]:
    """The wanted tool among others, in random order."""
    tools = [] if wanted is None else [wanted]
    while len(tools) < 1 or (draw.chance(0.42) and len(tools) < 4):
        other = function(Draw(draw.number(0, 1 << 40)))
        if all(other.thing != tool.thing for tool in tools):
            tools.append(other)
    draw.rng.shuffle(tools)
    return [tool.schema for tool in tools]


def tool_call(draw: Draw) -> Example:
    """Tools in the system turn, a question, and the call of the right one."""
    wanted = function(draw)
    question, calls = _request(draw, wanted)
    messages: list[Message] = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "", "tool_calls": calls},
    ]
    return Example(messages, offered(draw, wanted))


def tool_answer(draw: Draw) -> Example:
    """The same, and what the model tells the user after the tool's reply."""
    wanted = function(draw)
    question, calls = _request(draw, wanted)
    messages: list[Message] = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "", "tool_calls": calls},
    ]
    sentences = []
    for _ in calls:
        text, sentence = _reply(draw, wanted.thing)
        messages.append({"role": "tool", "content": text})
        sentences.append(sentence)
    messages.append({"role": "assistant", "content": " ".join(sentences)})
    return Example(messages, offered(draw, wanted))
