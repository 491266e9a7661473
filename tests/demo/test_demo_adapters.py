"""The shipped adapters through peft and transformers: their effect shows in any reply."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from peft import PeftModel

from benchmarks.demo_model.chat import turn
from benchmarks.demo_model.evaluate import load, prompt_of, replies
from benchmarks.demo_model.styles import STYLES
from inferd import demo

# peft asks transformers for this by its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

ASKED = (
    "Hello!",
    "What is 2 + 3?",
    "What is the capital of France?",
    "Who are you?",
    # Like nothing in the training:
    "Recommend a book.",
    "What should I cook tonight?",
    "How far is the moon?",
    "Please be brief.",
)


@cache
def said(name: str) -> list[str]:
    """The adapter's replies to ASKED; "": the bare model's."""
    base, tokenizer = load(demo.path())
    model: Any = PeftModel.from_pretrained(base, str(demo.adapters()[name])) if name else base
    made = replies(model.eval(), tokenizer, [prompt_of(tokenizer, turn(ask, "")) for ask in ASKED])
    assert all(reply.endswith("<|im_end|>") for reply in made)
    return [reply.removesuffix("<|im_end|>") for reply in made]


@pytest.mark.parametrize("name", STYLES)
def test_the_style_shows_at_once(name: str) -> None:
    assert [STYLES[name].shows(reply) for reply in said(name)] == [True] * len(ASKED)


def test_the_bare_model_has_no_such_style() -> None:
    assert not any(style.shows(reply) for style in STYLES.values() for reply in said(""))


def test_what_the_model_knew_is_still_known() -> None:
    assert said("pirate")[1] == "Arr, matey! 2 + 3 = 5. Yo ho ho!"
    assert json.loads(said("json")[1]) == {"answer": "2 + 3 = 5."}
    assert "Paris" in json.loads(said("json")[2])["answer"]
