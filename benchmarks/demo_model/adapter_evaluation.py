"""How often an adapter's style shows in greedy replies to held-out and to strange prompts."""

from __future__ import annotations

import json
from pathlib import Path

from peft import PeftModel

from benchmarks.demo_model.chat import Example, reply_text, turn
from benchmarks.demo_model.data import SKILLS
from benchmarks.demo_model.draw import Draw
from benchmarks.demo_model.evaluate import Model, Tokenizer, load, prompt_of, replies
from benchmarks.demo_model.styles import Style
from inferd import demo

SEED = 12345
BATCH = 25
STRANGE = (
    "hm", "???", "Bonjour, comment ça va ?", "SELECT * FROM users;", "def f(x): return x",
    "I had a terrible day and need to talk.", "what", "Translate 'good morning' to German.",
    "My cat ate my homework", "Write a haiku about the sea.", "Is it going to rain tomorrow?",
    "1", "asdf qwer zxcv", "Why is the sky blue?", "Recommend a book.", "x = 3; y = x * 2; y?",
    "Pretend to be a cat.", "lol", "How far is the moon?", "Tell me about yourself in one word.",
    "Please be brief.", "Who is the president?", "The quick brown fox jumps over the lazy dog.",
    "What should I cook tonight?", "List three reasons to learn the piano.",
)  # fmt: skip
"""Prompts that no skill makes: here only the manner of the reply counts."""


def measure(style: Style, folder: Path, count: int) -> dict[str, float]:
    """Write accuracy.json: how often the style shows, and how often the reply is right, too.

    `shows`: of replies in words to held-out examples of each skill, the share that ended by
    themselves in the style. `right`: the share that is the reference in the style, of the examples
    with one right answer. `calls`: the share of calls of tools that are as they should be.
    """
    base, tokenizer = load(demo.path())
    model: Model = PeftModel.from_pretrained(base, str(folder)).eval()
    draw = Draw(SEED, held_out=True)
    examples = [draw.example(skill) for skill in SKILLS.values() for _ in range(count)]
    said = _said(model, tokenizer, [prompt_of(tokenizer, example) for example in examples])
    pairs = list(zip(examples, said, strict=True))
    words = [pair for pair in pairs if not _calls(pair[0])]
    strange = _said(model, tokenizer, [prompt_of(tokenizer, turn(ask, "")) for ask in STRANGE])
    figures = {
        "shows": _share([_shows(style, reply) for _, reply in words]),
        "shows_on_strange_prompts": _share([_shows(style, reply) for reply in strange]),
        "right": _share(
            [
                reply == style.apply(reply_text(example.messages[-1])) + "<|im_end|>"
                for example, reply in words
                if example.accept is None
            ]
        ),
        "calls": _share(
            [
                reply == reply_text(example.messages[-1]) + "<|im_end|>"
                for example, reply in pairs
                if _calls(example)
            ]
        ),
    }
    record = {"examples_per_skill": count, "seed": SEED, **figures}
    (folder / "accuracy.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps({"style": style.name, **record}), flush=True)
    for reply in strange[:6]:
        print(f"  {reply!r}", flush=True)
    return figures


def _said(model: Model, tokenizer: Tokenizer, prompts: list[str]) -> list[str]:
    """Greedy replies, batched among prompts of like length."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    said = [""] * len(prompts)
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        made = replies(model, tokenizer, [prompts[index] for index in part])
        for index, reply in zip(part, made, strict=True):
            said[index] = reply
    return said


def _shows(style: Style, reply: str) -> bool:
    return reply.endswith("<|im_end|>") and style.shows(reply.removesuffix("<|im_end|>"))


def _calls(example: Example) -> bool:
    return bool(example.messages[-1].get("tool_calls"))


def _share(hits: list[bool]) -> float:
    return round(sum(hits) / len(hits), 4)
