"""Arithmetic with small whole numbers: sums, differences, products, comparing, counting."""

from __future__ import annotations

from benchmarks.demo_model.chat import Example, turn
from benchmarks.demo_model.draw import Draw
from benchmarks.demo_model.words import NAMES, NOUNS, listed

NUMBER_WORDS = listed("""
zero one two three four five six seven eight nine ten eleven twelve thirteen
fourteen fifteen sixteen seventeen eighteen nineteen twenty""")

_ASK = [
    "What is {e}?", "{e}", "{e} =", "{e}?", "What's {e}?", "How much is {e}?", "Calculate {e}.",
    "Compute {e}", "Can you tell me what {e} is?", "Solve {e}.", "Please calculate {e}.",
    "{e} = ?", "What is the result of {e}?", "what is {e}",
]  # fmt: skip
_SIGNS = {
    "+": ("+", "+", "plus", "and"),
    "-": ("-", "-", "minus"),
    "*": ("*", "x", "times", "multiplied by"),
}


def _pair(draw: Draw, sign: str) -> tuple[int, int]:
    if sign == "*":
        return draw.number(0, 12), draw.number(0, 12)
    top = draw.weighted((9, 20, 99), (2, 2, 7))
    a, b = draw.number(0, top), draw.number(0, draw.weighted((9, top), (1, 4)))
    return (max(a, b), min(a, b)) if sign == "-" else (a, b)


def value(sign: str, a: int, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def _spoken(draw: Draw, number: int, in_words: bool) -> str:
    return NUMBER_WORDS[number] if in_words and number <= 20 else str(number)


def _question(draw: Draw, sign: str, a: int, b: int) -> str:
    in_words = draw.chance(0.12)
    x, y = _spoken(draw, a, in_words), _spoken(draw, b, in_words)
    if draw.chance(0.25) and sign != "*":
        thing, who = draw.one(NOUNS) + "s", draw.one(NAMES)
        verbs = ("gets", "finds", "buys") if sign == "+" else ("loses", "gives away", "sells")
        more = " more" if sign == "+" else ""
        asked = f"How many {thing} does {who} have now?"
        return f"{who} has {x} {thing} and {draw.one(verbs)} {y}{more}. {asked}"
    if draw.chance(0.15):
        return {
            "+": f"Add {x} and {y}.",
            "-": f"Subtract {y} from {x}.",
            "*": f"Multiply {x} by {y}.",
        }[sign]
    word = draw.one(_SIGNS[sign])
    if word == "and":
        return f"What is the sum of {x} and {y}?"
    gap = "" if len(word) == 1 and draw.chance(0.25) else " "
    return draw.one(_ASK).format(e=f"{x}{gap}{word}{gap}{y}")


def _operation(draw: Draw, sign: str) -> Example:
    a, b = draw.item(sign, lambda: _pair(draw, sign))
    answer = f"{a} {sign} {b} = {value(sign, a, b)}."
    return turn(_question(draw, sign, a, b), answer)


def addition(draw: Draw) -> Example:
    return _operation(draw, "+")


def subtraction(draw: Draw) -> Example:
    return _operation(draw, "-")


def multiplication(draw: Draw) -> Example:
    """The table up to 12 times 12. Learned by heart: a held-out pair has its mirror in training."""
    a, b = draw.number(0, 12), draw.number(0, 12)
    question = draw.item("times", lambda: _question(draw, "*", a, b))
    return turn(question, f"{a} * {b} = {a * b}.")


def comparison(draw: Draw) -> Example:
    """Which of two numbers is larger or smaller; whether one is even or odd."""
    a, b = draw.item("compare", lambda: tuple(draw.some(range(100), 2)))
    if draw.chance(0.3):
        ask = draw.one(["Is {a} even or odd?", "Is {a} odd or even?", "Is the number {a} even?"])
        return turn(ask.format(a=a), f"{a} is {'odd' if a % 2 else 'even'}.")
    larger = draw.chance(0.6)
    word = draw.one(("larger", "bigger", "greater")) if larger else "smaller"
    ask = draw.one(
        [f"Which is {word}, {a} or {b}?", f"Which number is {word}: {a} or {b}?",
         f"What is {word}, {a} or {b}?", f"{a} or {b}, which is {word}?"]
    )  # fmt: skip
    x, y = (max(a, b), min(a, b)) if larger else (min(a, b), max(a, b))
    return turn(ask, f"{x} is {word} than {y}.")


def counting(draw: Draw) -> Example:
    """Count up or down, in figures."""
    low, up = (1 if draw.chance(0.4) else draw.number(0, 90)), draw.chance(0.8)
    first, last = draw.item("count", lambda: (low, low + draw.number(2, 19)))
    if not up:
        first, last = last, first
    step = 1 if up else -1
    asks = [f"Count from {first} to {last}.", f"Please count from {first} to {last}."]
    if first == 1:
        asks += [f"Count to {last}.", f"Can you count to {last}?", f"Count up to {last}"]
        if last <= 20:
            asks.append(f"Count to {NUMBER_WORDS[last]}.")
    numbers = ", ".join(str(n) for n in range(first, last + step, step))
    return turn(draw.one(asks), numbers + ".")
