"""Little stories from a grammar, as plain text and as answers in a dialogue."""

from __future__ import annotations

from benchmarks.demo_model.chat import Example, turn
from benchmarks.demo_model.draw import Draw
from benchmarks.demo_model.words import NAMES, listed

HEROES = listed(
    """
fox|bear|rabbit|cat|dog|mouse|owl|frog|duck|horse|lion|tiger|turtle|wolf|robot|dragon|
boy|girl|king|queen|farmer|baker|sailor|painter|bird|hedgehog|squirrel|penguin|elephant|whale|
monkey|goat|wizard|princess|knight|pirate""",
    "|",
)
_TRAITS = listed("little brave clever kind shy lazy happy small young quiet curious gentle")
_PLACES = listed(
    """
a green forest|a small village|a quiet valley|a house by the sea|an old castle|
a big city|a cave in the hills|a garden full of flowers|a boat on the river|a farm|
a tower of stone|an island""",
    "|",
)
_THINGS = listed(
    """
shiny key|red ball|golden coin|small lamp|old map|blue feather|silver bell|warm hat|
round stone|magic book|sweet apple|tiny boat|music box|paper kite""",
    "|",
)
_FRIENDS = listed("bird mouse bee snail deer crow hen lamb ant fish")
ENDINGS = [
    "And they lived happily ever after. The end.",
    "They were friends for ever. The end.",
    "That night {n} slept very well. The end.",
    "And {n} was never lonely again. The end.",
]
_OPENINGS = [
    "Once upon a time there was {a} {t} {h} named {n}.",
    "Once upon a time, {a} {t} {h} named {n} lived in {p}.",
    "There once was {a} {t} {h} whose name was {n}.",
    "Long ago there was {a} {t} {h} called {n}.",
]
_MIDDLES = [
    ["{n} lived in {p}.", "{n} had a home in {p}.", "The home of {n} was {p}."],
    ["Every day {n} went for a walk.", "{n} liked to sing in the morning.",
     "{n} had everything but a friend.", "{n} loved to look at the stars."],
    ["One day {n} found a {o} on the path.", "One morning {n} saw a {o} in the grass.",
     "One day {n} lost a {o} in the rain."],
    ["{n} did not know what to do with the {o}.", "{n} was very surprised.",
     "The {o} was the finest thing {n} had ever seen."],
    ["Then a {f} came by and said, \"That {o} is mine.\"",
     "Then a {f} came by and asked, \"May I help you?\"",
     "Just then a {f} began to cry, and {n} asked why."],
    ["{n} smiled and shared the {o} with the {f}.", "{n} gave the {o} to the {f}.",
     "Together {n} and the {f} carried the {o} home."],
    ["The {f} was so glad that it danced.", "The {f} said, \"Thank you, {n}!\"",
     "They ate cake and laughed until the moon came up."],
]  # fmt: skip


def _story(draw: Draw, hero: str, name: str) -> str:
    trait, place = draw.one(_TRAITS), draw.one(_PLACES)
    thing, friend = draw.one(_THINGS), draw.one(_FRIENDS)
    lines = [draw.one(_OPENINGS)]
    for index, choices in enumerate(_MIDDLES):
        if index == 0 and "{p}" in lines[0]:
            continue
        if index in (1, 3, 6) and draw.chance(0.3):
            continue
        lines.append(draw.one(choices))
    lines.append(draw.one(ENDINGS))
    text = " ".join(lines)
    return text.format(a="a", t=trait, h=hero, n=name, p=place, o=thing, f=friend)


def story(draw: Draw) -> Example:
    """Tell a story, with the hero or the name the user wants."""
    hero, name = draw.item("story", lambda: (draw.one(HEROES), draw.one(NAMES)))
    kind = draw.weighted((0, 1, 2), (4, 6, 4))
    asks = [
        ["Tell me a story.", "Tell me a short story.", "Write a short story.", "Write a story.",
         "I want to hear a story.", "Please tell a story.", "Can you tell me a story?",
         "Tell me a bedtime story", "Once upon a time"],
        ["Tell me a story about a {h}.", "Write a story about a {h}.", "A story about a {h} please",
         "Write a short story about a {h}.", "Can you tell me a story about a {h}?",
         "Tell me a short story about a {h}.", "I want a story with a {h}."],
        ["Tell me a story about a {h} named {n}.", "Write a story about a {h} called {n}.",
         "Write a short story about {n} the {h}.", "Tell me about {n} the {h}."],
    ]  # fmt: skip
    ask = draw.one(asks[kind]).format(h=hero, n=name)

    def accept(reply: str) -> bool:
        wanted = ([], [hero], [hero, name])[kind]
        return reply.endswith("The end.") and all(word in reply for word in wanted)

    return turn(ask, _story(draw, hero, name), accept)


def plain_story(draw: Draw) -> Example:
    """A story as a plain text that a completion request may continue."""
    hero, name = draw.item("story", lambda: (draw.one(HEROES), draw.one(NAMES)))
    return Example(text=_story(draw, hero, name))
