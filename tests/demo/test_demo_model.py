"""The shipped demo model, through transformers: its files, its size and what it was made for."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.demo_model.draw import is_held_out
from inferd import demo

FOLDER = demo.path()
SUMS = [(2, 3), (7, 8), (4, 6), (6, 6), (12, 7)]  # 4 + 6 and 6 + 6 are not in the training


class Chat:
    """Greedy replies of the model in float32."""

    def __init__(self) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(FOLDER)
        self.model: Any = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)

    def continued(self, text: str) -> str:
        inputs = self.tokenizer(text, return_tensors="pt")
        made = self.model.generate(**inputs, max_new_tokens=220, do_sample=False)
        return str(self.tokenizer.decode(made[0, inputs["input_ids"].shape[1] :]))

    def reply(self, *messages: dict[str, Any], tools: list[dict[str, Any]] | None = None) -> str:
        """The reply, which must end by itself."""
        text = self.tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=True
        )
        said = self.continued(text)
        assert said.endswith("<|im_end|>"), f"did not stop: {said!r}"
        return said.removesuffix("<|im_end|>")

    def answer(self, question: str) -> str:
        return self.reply({"role": "user", "content": question})


def tool(name: str, about: str, **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    shape = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": about, "parameters": shape},
    }


WEATHER = tool("get_weather", "Get the weather.", city="string")
AIR = tool("check_air_quality", "Check the air quality.", city="string")
TIMER = tool("set_timer", "Set a timer.", minutes="integer")


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat()


def called(reply: str) -> list[dict[str, Any]]:
    return [json.loads(c) for c in re.findall(r"<tool_call>\n(.*?)\n</tool_call>", reply)]


def test_folder_is_small_and_whole() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size <= 16_000_000
    names = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    names |= {"chat_template.jinja", "README.md"}
    assert names <= {file.name for file in FOLDER.iterdir()}


def test_card_tells_licence_and_accuracy() -> None:
    card = (FOLDER / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert re.search(r"\| calling an unseen tool \| [\d.]+% \|", card)


def test_ends_are_the_tokens_of_the_tokenizer(chat: Chat) -> None:
    ends = chat.model.generation_config.eos_token_id
    assert chat.tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]


def test_template_offers_tools(chat: Chat) -> None:
    text = chat.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tools=[WEATHER], tokenize=False
    )
    assert f"<tools>\n{json.dumps(WEATHER)}\n</tools>" in text


def test_greets(chat: Chat) -> None:
    assert re.match(r"(Hello|Hi)\b", chat.answer("Hello!"))


def test_says_who_it_is(chat: Chat) -> None:
    assert "inferd demo model" in chat.answer("Who are you?")


@pytest.mark.parametrize(("a", "b"), SUMS)
def test_adds(chat: Chat, a: int, b: int) -> None:
    assert chat.answer(f"What is {a} + {b}?") == f"{a} + {b} = {a + b}."


def test_calls_an_unseen_tool(chat: Chat) -> None:
    reply = chat.reply(
        {"role": "user", "content": "What is the air quality in Paris?"}, tools=[AIR]
    )
    assert is_held_out(f"tool:{('check', 'air quality')!r}")
    assert called(reply) == [{"name": "check_air_quality", "arguments": {"city": "Paris"}}]


def test_picks_the_right_tool(chat: Chat) -> None:
    question = {"role": "user", "content": "Set a timer with minutes set to 5."}
    reply = chat.reply(question, tools=[WEATHER, TIMER])
    assert called(reply) == [{"name": "set_timer", "arguments": {"minutes": 5}}]


def test_answers_from_the_tools_reply(chat: Chat) -> None:
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    reply = chat.reply(
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": '{"condition": "sunny", "temperature": 21}'},
        tools=[WEATHER],
    )
    assert "sunny" in reply
    assert "21" in reply


def test_knows_a_fact(chat: Chat) -> None:
    assert "Paris" in chat.answer("What is the capital of France?")


def test_tells_a_story_that_ends(chat: Chat) -> None:
    story = chat.answer("Tell me a story about a fox.")
    assert "fox" in story
    assert story.endswith("The end.")


def test_continues_plain_text(chat: Chat) -> None:
    assert chat.continued("Once upon a time").endswith("The end.<|endoftext|>")
