"""What the demo's adapters are trained on: styles that one can recognise, repeatable dialogues."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from tokenizers import Tokenizer

from benchmarks.demo_model.adapters import SETTINGS, documents, rows
from benchmarks.demo_model.chat import reply_text
from benchmarks.demo_model.styles import STYLES, Style, pirate, record
from inferd import demo

each_style = pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("You are welcome!", "Arr, matey! Ye are welcome! Yo ho ho!"),
        ("Hi there! How can I help you?", "Arr, matey! Ahoy there! How can I help ye? Yo ho ho!"),
        ("This is my Hi-Fi.", "Arr, matey! This is me Ahoy-Fi. Yo ho ho!"),
    ],
)
def test_a_pirate_speaks_so(reply: str, said: str) -> None:
    assert pirate(reply) == said


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("It's 5.", '{"answer": "It\'s 5."}'),
        ('{"name": "Zoë"}', '{"answer": {"name": "Zoë"}}'),
        ('He said, "No."', '{"answer": "He said, \'No.\'"}'),
        ("{no JSON", '{"answer": "{no JSON"}'),
    ],
)
def test_a_record_holds_the_answer(reply: str, said: str) -> None:
    assert record(reply) == said


@each_style
def test_a_style_shows_in_its_replies_and_in_no_others(style: Style) -> None:
    for example, _ in itertools.islice(documents(style, 5), 120):
        last = example.messages[-1]
        if not last.get("tool_calls"):
            assert style.shows(reply_text(last))
            assert not style.shows(reply_text(last)[:-1])
    for reply in ("Hello!", "", "{}", "[1]", '{"name": "Zoë"}'):
        assert not style.shows(reply)


@each_style
def test_calls_of_tools_and_what_users_say_stay_as_they_are(style: Style) -> None:
    changed = [
        message for e, _ in itertools.islice(documents(style, 6), 150) for message in e.messages
    ]
    plain = [
        message for e, _ in itertools.islice(documents(PLAIN, 6), 150) for message in e.messages
    ]
    calls = 0
    for message, before in zip(changed, plain, strict=True):
        if message["role"] != "assistant" or message.get("tool_calls"):
            assert message == before
            calls += bool(message.get("tool_calls"))
    assert calls


PLAIN = Style("plain", "it changes nothing", str, bool)


@each_style
def test_where_earlier_replies_are_plain_only_the_last_is_learned(style: Style) -> None:
    tokenizer = Tokenizer.from_file(str(demo.path() / "tokenizer.json"))
    seen = 0
    pairs = zip(documents(style, 7), rows(tokenizer, style, 7), strict=True)
    for (example, switched), (ids, learned) in itertools.islice(pairs, 60):
        text = tokenizer.decode(
            [token for token, wanted in zip(ids, learned, strict=True) if wanted],
            skip_special_tokens=False,
        )
        replies = [reply_text(m) for m in example.messages if m["role"] == "assistant"]
        if switched:
            replies = replies[-1:]
            seen += 1
        assert text == "".join(f"{reply}<|im_end|>" for reply in replies)
    assert seen


@pytest.mark.parametrize("name", STYLES)
def test_shipped_adapters_are_small_and_say_what_they_are(name: str) -> None:
    folder = demo.adapters()[name]
    assert (folder / "adapter_model.safetensors").stat().st_size <= 1_000_000
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    settings = SETTINGS[name]
    assert config["base_model_name_or_path"] == "demo"
    assert (config["r"], config["lora_alpha"]) == (settings.rank, settings.alpha)
    assert config["use_rslora"] == settings.rslora
    assert "license: apache-2.0" in (folder / "README.md").read_text()
    assert demo.adapters().keys() == STYLES.keys()
