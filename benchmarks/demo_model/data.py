"""The mixture: single skills joined into dialogues, and the stream of training documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.demo_model import arithmetic, extraction, facts, spelling, stories, talk, tools
from benchmarks.demo_model.chat import Example
from benchmarks.demo_model.draw import Draw

Skill = Callable[[Draw], Example]


def no_tool(draw: Draw) -> Example:
    """A question that needs none of the tools that are offered."""
    example = draw.one((talk.greeting, facts.fact, arithmetic.addition, talk.unknown))(draw)
    return Example(example.messages, tools.offered(draw, None), accept=example.accept)


def remember(draw: Draw) -> Example:
    """Something the user said some turns ago."""
    return talk.memory(draw, [turn_skill(draw)(draw) for _ in range(draw.number(0, 2))])


# What one turn of a dialogue may be, with its share.
TURNS: dict[Skill, float] = {
    talk.greeting: 7,
    talk.unknown: 4,
    talk.repeat: 7,
    arithmetic.addition: 12,
    arithmetic.subtraction: 8,
    arithmetic.multiplication: 4,
    arithmetic.comparison: 3,
    arithmetic.counting: 3,
    spelling.spell: 9,
    spelling.letters: 4,
    spelling.case: 5,
    facts.fact: 12,
    facts.calendar: 2,
    facts.listing: 2,
    extraction.extract: 9,
    stories.story: 4,
}

# What is measured on its own, by the names that the model card uses.
SKILLS: dict[str, Skill] = {
    "greetings and small talk": talk.greeting,
    "declining what it cannot do": talk.unknown,
    "repeating a text": talk.repeat,
    "remembering across turns": remember,
    "addition (0-99)": arithmetic.addition,
    "subtraction (0-99)": arithmetic.subtraction,
    "multiplication (0-12)": arithmetic.multiplication,
    "comparison, even and odd": arithmetic.comparison,
    "counting": arithmetic.counting,
    "spelling": spelling.spell,
    "letters of a word": spelling.letters,
    "upper and lower case": spelling.case,
    "facts": facts.fact,
    "days and months": facts.calendar,
    "lists": facts.listing,
    "extraction to JSON": extraction.extract,
    "calling an unseen tool": tools.tool_call,
    "answering from a tool's reply": tools.tool_answer,
    "no tool needed": no_tool,
    "stories": stories.story,
}


def turn_skill(draw: Draw) -> Skill:
    return draw.weighted(list(TURNS), list(TURNS.values()))


def dialogue(draw: Draw) -> Example:
    """One to six turns, now and then with a system prompt, with tools, or with something to recall.

    Small turns come several to a document: more answers per token read.
    """
    kind = draw.weighted(("turns", "tool", "no tool", "memory"), (52, 36, 5, 7))
    if kind == "memory":
        parts = [remember(draw)]
    elif kind == "tool":
        parts = [tools.tool_answer(draw) if draw.chance(0.5) else tools.tool_call(draw)]
        if parts[0].messages[-1]["content"] and draw.chance(0.35):
            parts.append(turn_skill(draw)(draw))
        if draw.chance(0.15):
            parts.insert(0, turn_skill(draw)(draw))
    elif kind == "no tool":
        parts = [no_tool(draw)]
    else:
        count = draw.weighted((1, 2, 3, 4, 6), (30, 20, 15, 15, 20))
        parts = [turn_skill(draw)(draw) for _ in range(count)]
    messages = [message for part in parts for message in part.messages]
    if draw.chance(0.3):
        messages = [{"role": "system", "content": talk.system_prompt(draw)}, *messages]
    return Example(messages, [tool for part in parts for tool in part.tools])


def document(draw: Draw) -> Example:
    """A dialogue, or (one in fourteen) a plain text."""
    if draw.chance(0.07):
        return (stories.plain_story if draw.chance(0.7) else facts.plain_fact)(draw)
    return dialogue(draw)


def documents(seed: int) -> Iterator[Example]:
    """The endless stream of training documents for `seed`."""
    draw = Draw(seed)
    while True:
        yield document(draw)
