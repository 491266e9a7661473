"""The demo model's synthetic data: repeatable, split cleanly, rendered as the template does."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jinja2
import pytest
from tokenizers import Tokenizer

from benchmarks.demo_model import arithmetic
from benchmarks.demo_model.chat import TEMPLATE, Example, render, reply_text, to_json
from benchmarks.demo_model.data import SKILLS, documents
from benchmarks.demo_model.draw import Draw, NothingHeldOut
from benchmarks.demo_model.evaluate import is_right
from benchmarks.demo_model.tokenizer import encode, train_tokenizer


def sample(seed: int, count: int) -> list[Example]:
    return list(itertools.islice(documents(seed), count))


def contents(examples: list[Example]) -> list[object]:
    return [(example.messages, example.tools, example.text) for example in examples]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(seed=0, count=300)


@pytest.fixture(scope="module")
def template() -> jinja2.Template:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = to_json
    return environment.from_string(TEMPLATE.read_text())


def test_documents_depend_on_the_seed_alone() -> None:
    assert contents(sample(7, 200)) == contents(sample(7, 200))
    assert contents(sample(7, 200)) != contents(sample(8, 200))


@pytest.mark.parametrize("name", ["addition (0-99)", "facts", "spelling", "calling an unseen tool"])
def test_held_out_questions_are_never_in_training(name: str) -> None:
    skill = SKILLS[name]
    train, test = Draw(1), Draw(1, held_out=True)
    seen = {question(train.example(skill)) for _ in range(3000)}
    assert seen.isdisjoint(question(test.example(skill)) for _ in range(200))


def question(example: Example) -> str:
    """What the example asks, without the distracting tools around it."""
    return f"{example.messages[0]['content']} {reply_text(example.messages[-1])}"


def test_a_held_out_sum_is_held_out_in_every_wording() -> None:
    train, test = Draw(2), Draw(2, held_out=True)
    seen = {reply_text(train.example(arithmetic.addition).messages[-1]) for _ in range(5000)}
    held = {reply_text(test.example(arithmetic.addition).messages[-1]) for _ in range(300)}
    assert held.isdisjoint(seen)


def test_a_choice_with_nothing_held_out_is_refused() -> None:
    with pytest.raises(NothingHeldOut, match="colour"):
        Draw(0, held_out=True).item("colour", lambda: "red")


@pytest.mark.parametrize("name", sorted(SKILLS))
def test_every_skill_has_held_out_examples_that_accept_their_own_reply(name: str) -> None:
    draw = Draw(3, held_out=True)
    for _ in range(20):
        example = draw.example(SKILLS[name])
        reply = reply_text(example.messages[-1])
        assert is_right(example, reply + "<|im_end|>")
        assert not is_right(example, reply), "a reply that does not stop must not count"


@pytest.mark.parametrize(("sign", "result"), [("+", 12), ("-", 4), ("*", 32)])
def test_arithmetic_is_right(sign: str, result: int) -> None:
    assert arithmetic.value(sign, 8, 4) == result


def test_rendering_agrees_with_the_chat_template(template: jinja2.Template) -> None:
    for example in sample(4, 300):
        if example.messages:
            text = "".join(piece for piece, _ in render(example.messages, example.tools))
            values: dict[str, Any] = {"messages": example.messages, "tools": example.tools}
            assert template.render(**values) == text


def test_template_takes_parts_and_argument_strings(template: jinja2.Template) -> None:
    call = {"function": {"name": "get_time", "arguments": '{"city": "Rome"}'}}
    text = template.render(
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Ti"}, {"text": "me?"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "noon"},
        ],
        add_generation_prompt=True,
    )
    assert text == (
        "<|im_start|>user\nTime?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        '{"name": "get_time", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nnoon\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_encoding_by_pieces_is_encoding_of_the_whole(tokenizer: Tokenizer) -> None:
    for example in sample(5, 100):
        if example.messages:
            ids, learned = encode(tokenizer, example)
            text = "".join(piece for piece, _ in render(example.messages, example.tools))
            assert ids == tokenizer.encode(text).ids
            assert len(learned) == len(ids)


def test_plain_text_is_learned_to_its_end(tokenizer: Tokenizer) -> None:
    ids, learned = encode(tokenizer, Example(text="The sun is yellow."))
    assert tokenizer.id_to_token(ids[-1]) == "<|endoftext|>"
    assert learned == [False] + [True] * (len(ids) - 1)


def test_only_the_assistants_words_are_learned(tokenizer: Tokenizer) -> None:
    example = Example([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho!"}])
    ids, learned = encode(tokenizer, example)
    kept = [token for token, wanted in zip(ids, learned, strict=True) if wanted]
    assert tokenizer.decode(kept, skip_special_tokens=False) == "Ho!<|im_end|>"


@pytest.mark.parametrize("text", ["12 + 305", "Zoë, São Paulo 😀\n\n\tend ", "getWeather_in-Rome"])
def test_tokenizer_gives_any_text_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("1234").tokens == list("1234")


def test_template_file_is_the_shipped_one() -> None:
    from inferd import demo

    shipped: Path = demo.path() / "chat_template.jinja"
    assert shipped.read_text().strip() == TEMPLATE.read_text().strip()
