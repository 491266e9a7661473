"""Which model answers to which name."""

from __future__ import annotations

import pytest

from inferd.engines import echo
from inferd.engines.base import EngineSpec
from inferd.engines.local import LocalEngine
from inferd.errors import NotFound, Unavailable
from inferd.registry import Deployment, Registry
from tests.serving import TEXT

pytestmark = pytest.mark.anyio


def deployment(name: str, *aliases: str) -> Deployment:
    engine = LocalEngine(echo.create, EngineSpec(engine="echo"))
    return Deployment(name, engine, TEXT, created=1, aliases=aliases)


def test_a_model_answers_to_its_name_and_aliases() -> None:
    registry = Registry()
    first, second = deployment("org/first", "first", "gpt-4"), deployment("second")
    registry.add(first)
    registry.add(second)
    assert registry.resolve("org/first") is first
    assert registry.resolve("gpt-4") is first
    assert registry.resolve("second") is second
    assert registry.list() == (first, second)
    assert list(registry.engines()) == [("org/first", first.engine), ("second", second.engine)]


@pytest.mark.parametrize("name", ["", "firs", "First", "first:1"])
def test_an_unknown_name_is_not_found(name: str) -> None:
    registry = Registry()
    registry.add(deployment("first"))
    with pytest.raises(NotFound) as caught:
        registry.resolve(name)
    assert caught.value.message == f"The model `{name}` does not exist."
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert caught.value.param == "model"


def test_before_the_first_model_everything_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        Registry().resolve("first")


def test_a_long_unknown_name_is_shortened() -> None:
    registry = Registry()
    registry.add(deployment("first"))
    with pytest.raises(NotFound) as caught:
        registry.resolve("x" * 10_000)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("names", [("first",), ("new", "first"), ("alias",)])
def test_a_taken_name_is_refused_and_changes_nothing(names: tuple[str, ...]) -> None:
    registry = Registry()
    first = deployment("first", "alias")
    registry.add(first)
    with pytest.raises(ValueError, match="already served"):
        registry.add(deployment(*names))
    assert registry.list() == (first,)
    with pytest.raises(NotFound):
        registry.resolve("new")


async def test_readiness_follows_the_engine() -> None:
    each = deployment("first")
    seen = [each.ready]
    await each.engine.start(lambda progress: None)
    seen.append(each.ready)
    await each.engine.close()
    assert [*seen, each.ready] == [False, True, False]
