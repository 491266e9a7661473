"""The daemon with the demo model, as Anthropic's package sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import Anthropic
from anthropic.types import Message

from tests.daemon.daemons import Daemon

WEATHER: Any = {
    "name": "get_weather",
    "description": "Get the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
QUESTION: Any = {"role": "user", "content": "What is the weather in Paris?"}
STORY: Any = {"role": "user", "content": "Tell me a story about a fox."}


@pytest.fixture(scope="module")
def claude(daemon: Daemon) -> Iterator[Anthropic]:
    with Anthropic(base_url=daemon.url, api_key="any", max_retries=0, timeout=60) as client:
        yield client


def ask(client: Anthropic, *messages: Any, **options: Any) -> Message:
    message: Message = client.messages.create(
        model="demo",
        messages=messages,
        max_tokens=200,
        extra_body={"temperature": 0},
        **options,
    )
    return message


def streamed(client: Anthropic, *messages: Any, **options: Any) -> Message:
    with client.messages.stream(
        model="demo",
        messages=messages,
        max_tokens=200,
        extra_body={"temperature": 0},
        **options,
    ) as stream:
        return stream.get_final_message()


def blocks(message: Message) -> list[dict[str, Any]]:
    """Without what is new each time, or not on the wire."""
    return [
        {key: value for key, value in block.to_dict().items() if key not in ("id", "parsed_output")}
        for block in message.content
    ]


def test_streamed_equals_whole(claude: Anthropic) -> None:
    whole, stream = ask(claude, STORY), streamed(claude, STORY)
    assert whole.content
    assert blocks(stream) == blocks(whole)
    assert stream.stop_reason == whole.stop_reason == "end_turn"
    assert stream.usage.output_tokens == whole.usage.output_tokens


def test_usage_adds_up(claude: Anthropic) -> None:
    counted = claude.messages.count_tokens(model="demo", messages=[QUESTION], tools=[WEATHER])
    for _ in range(2):  # the second finds the prompt in the cache
        usage = ask(claude, QUESTION, tools=[WEATHER]).usage
        cached = usage.cache_read_input_tokens or 0
        assert usage.input_tokens + cached == counted.input_tokens
    assert cached > 0


@pytest.mark.parametrize(
    "choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "get_weather"}]
)
def test_a_tools_round_trip(claude: Anthropic, choice: Any) -> None:
    call = ask(claude, QUESTION, tools=[WEATHER], tool_choice=choice)
    assert call.stop_reason == "tool_use"
    use = call.content[-1]
    assert use.type == "tool_use"
    assert (use.name, use.input) == ("get_weather", {"city": "Paris"})
    assert blocks(streamed(claude, QUESTION, tools=[WEATHER], tool_choice=choice)) == blocks(call)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "21 degrees"}
    turns: list[Any] = [call.to_param(), {"role": "user", "content": [result]}]
    answer = ask(claude, QUESTION, *turns, tools=[WEATHER])
    assert answer.content[0].type == "text"
    assert re.search(r"\b21\b", answer.content[0].text)


def test_a_turn_is_continued(claude: Anthropic) -> None:
    whole = ask(claude, STORY).content[0].to_dict()["text"]
    assert isinstance(whole, str)
    before, _, last = whole.rpartition(". ")
    begun = {"role": "assistant", "content": before + "."}
    assert ask(claude, STORY, begun).content[0].to_dict()["text"] == f" {last}"


def test_json_that_a_schema_accepts(claude: Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["Zoe", "Yan"]}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    answer = ask(claude, STORY, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert answer.content[0].type == "text"
    assert re.fullmatch(
        r'\{\s*"name":\s*"(Zoe|Yan)",\s*"age":\s*-?\d+\s*\}', answer.content[0].text
    )
