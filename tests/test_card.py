"""What is said of a deployment."""

from __future__ import annotations

import pytest

from inferd.card import describe
from inferd.engines import echo
from inferd.engines.base import EngineSpec
from inferd.engines.local import LocalEngine
from inferd.registry import Deployment
from inferd.text.chat import ChatTemplate
from inferd.text.model import TextModel, with_parsers
from tests.serving import TOKENIZER

pytestmark = pytest.mark.anyio


def deployment(**templates: str) -> Deployment:
    chat = ChatTemplate(templates, {}) if templates else None
    engine = LocalEngine(echo.create, EngineSpec(engine="echo"))
    text = with_parsers(TextModel(TOKENIZER, chat))
    return Deployment("org/m", engine, text, 7, ("m",), "v1")


async def test_before_and_after_the_model_has_loaded() -> None:
    each = deployment(default="x")
    card = describe(each)
    assert (card.name, card.aliases, card.version, card.created) == ("org/m", ("m",), "v1", 7)
    assert card.deploy_id == each.deploy_id
    assert (card.state, card.engine, card.context_length) == ("starting", None, None)
    info = await each.engine.start(lambda progress: None)
    card = describe(each)
    await each.engine.close()
    assert (card.state, card.engine, card.context_length) == ("ready", info, info.max_model_len)


def test_an_unknown_version_is_none() -> None:
    each = deployment()
    assert describe(Deployment("m", each.engine, each.text, 1)).version is None


@pytest.mark.parametrize(
    ("templates", "tags"),
    [
        ({}, ()),
        ({"default": "{{ messages[0].content }}"}, ("chat",)),
        ({"default": "{% if tools %}{{ tools }}{% endif %}"}, ("chat", "tools")),
        ({"default": "x", "tool_use": "{{ tools }}"}, ("chat", "tools")),
        ({"default": "{{ messages[0].content }}<think></think>"}, ("chat", "reasoning")),
    ],
)
def test_tags_follow_from_the_template(templates: dict[str, str], tags: tuple[str, ...]) -> None:
    card = describe(deployment(**templates))
    assert card.tags == tags
    assert card.chat_template == templates.get("default")


async def test_a_promise_is_told() -> None:
    engine = LocalEngine(echo.create, EngineSpec(engine="echo", deterministic=True))
    each = Deployment("m", engine, TextModel(TOKENIZER, None), 1)
    assert describe(each).tags == ()
    await engine.start(lambda progress: None)
    card = describe(each)
    await engine.close()
    assert card.tags == ("deterministic",)
    assert (card.description or "").endswith(", deterministic")


def test_calls_that_nobody_reads_are_no_tools() -> None:
    each = deployment(default="{{ tools }}")
    text = with_parsers(each.text, tool_call_parser="none")
    assert describe(Deployment("m", each.engine, text, 1)).tags == ("chat",)
