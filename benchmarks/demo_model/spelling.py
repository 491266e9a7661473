"""Spelling and case: letters of a word, forwards, backwards, counted, in capitals."""

from __future__ import annotations

from benchmarks.demo_model.chat import Example, turn
from benchmarks.demo_model.draw import Draw
from benchmarks.demo_model.words import name, word


def _quoted(draw: Draw, text: str) -> str:
    return draw.one(("{}", "{}", '"{}"', "'{}'")).format(text)


def spell(draw: Draw) -> Example:
    """Letters with dashes between, forwards or (of short words) backwards."""
    text = draw.item("spell", lambda: word(draw) if draw.chance(0.85) else name(draw).lower())
    shown = _quoted(draw, text)
    if len(text) <= 7 and draw.chance(0.25):
        ask = draw.one(["Spell {} backwards.", "Spell the word {} backwards.", "Reverse {}.",
                        "Write {} backwards.", "Reverse the word {}."])  # fmt: skip
        return turn(ask.format(shown), "-".join(reversed(text)))
    ask = draw.one(
        ["Spell {}.", "Spell the word {}.", "How do you spell {}?", "Please spell {}.",
         "Can you spell {}?", "How is {} spelled?", "Spell {}", "Spell {} for me."]
    )  # fmt: skip
    return turn(ask.format(shown), "-".join(text))


def letters(draw: Draw) -> Example:
    """First and last letter, number of letters, how often one occurs."""
    text = draw.item("letters", lambda: word(draw))
    shown, dashed, kind = _quoted(draw, text), "-".join(text), draw.number(0, 3)
    if kind == 0:
        first = draw.chance(0.5)
        which, letter = ("first", text[0]) if first else ("last", text[-1])
        ask = draw.one(["What is the {w} letter of {x}?", "Which letter is {w} in {x}?",
                        "What is the {w} letter in the word {x}?"])  # fmt: skip
        return turn(ask.format(w=which, x=shown), f"The {which} letter of {text} is {letter}.")
    if kind in (1, 2):
        ask = draw.one(["How many letters are in {}?", "How many letters does {} have?",
                        "Count the letters in {}.", "How long is the word {}?"])  # fmt: skip
        return turn(ask.format(shown), f"{dashed} has {len(text)} letters.")
    letter = draw.one(text)
    ask = draw.one(["How many {c}'s are in {x}?", "How often does {c} occur in {x}?",
                    "How many times does the letter {c} occur in {x}?",
                    "How many {c}s are in the word {x}?"])  # fmt: skip
    return turn(ask.format(c=letter, x=shown), f"{dashed} has {text.count(letter)} {letter}.")


def case(draw: Draw) -> Example:
    """Capitals to small letters and back."""
    count = draw.weighted((1, 2, 3), (6, 2, 1))
    text = draw.item("case", lambda: " ".join(word(draw) for _ in range(count)))
    kind = draw.number(0, 2)
    if kind == 0:
        ask = draw.one(["Write {} in capital letters.", "Write {} in upper case.",
                        "Put {} in capitals.", "Make {} uppercase.", "Uppercase: {}",
                        "Convert {} to uppercase.", "Say {} in all caps."])  # fmt: skip
        return turn(ask.format(_quoted(draw, text)), text.upper())
    if kind == 1:
        ask = draw.one(["Write {} in lower case.", "Make {} lowercase.", "Lowercase: {}",
                        "Write {} in small letters.", "Convert {} to lowercase."])  # fmt: skip
        return turn(ask.format(_quoted(draw, text.upper())), text)
    ask = draw.one(["Capitalize {}.", "Write {} with a capital first letter.", "Capitalize: {}"])
    return turn(ask.format(_quoted(draw, text)), text.capitalize())
