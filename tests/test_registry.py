"""Which model answers to which name."""

from __future__ import annotations

import asyncio

import pytest

from inferd.engines import echo
from inferd.engines.base import EngineSpec
from inferd.engines.local import LocalEngine
from inferd.errors import Conflict, NotFound, Unavailable
from inferd.lifecycle import MOVES, STATES, Failure, State
from inferd.registry import Deployment, Entry, Registry
from tests.serving import TEXT

pytestmark = pytest.mark.anyio


VERSION = "0123456789abcdef0123456789abcdef01234567"


def deployment(name: str, *aliases: str, version: str = "") -> Deployment:
    engine = LocalEngine(echo.create, EngineSpec(engine="echo"))
    return Deployment(name, engine, TEXT, created=1, aliases=aliases, version=version)


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


@pytest.mark.parametrize("name", ["", "firs", "First", "firs:1", "deploy_id:", ":"])
def test_an_unknown_name_is_not_found(name: str) -> None:
    registry = Registry()
    registry.add(deployment("first"))
    with pytest.raises(NotFound) as caught:
        registry.resolve(name)
    assert caught.value.message == f"The model `{name}` does not exist."
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    "model",
    ["org/first", "org/first:" + VERSION, "org/first:0123456", "alias:0123456789", "a:b:0123456"],
)
def test_a_version_follows_any_of_the_names(model: str) -> None:
    registry = Registry()
    first = deployment("org/first", "alias", "a:b", version=VERSION)
    registry.add(first)
    assert registry.resolve(model) is first


@pytest.mark.parametrize("version", ["", "2", "012345", "1123456", VERSION + "0", VERSION[1:]])
@pytest.mark.parametrize("known", [VERSION, ""])
def test_an_unknown_version_is_named(version: str, known: str) -> None:
    registry = Registry()
    registry.add(deployment("first", version=known))
    with pytest.raises(NotFound) as caught:
        registry.resolve(f"first:{version}")
    assert caught.value.message == f"The model `first` has no version `{version}`."
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_name_with_a_colon_is_taken_as_it_is() -> None:
    registry = Registry()
    plain, tagged = deployment("first", version="0" * 40), deployment("first:0000000")
    registry.add(plain)
    registry.add(tagged)
    assert registry.resolve("first:0000000") is tagged
    assert registry.resolve("first:00000000") is plain


def test_a_deployment_answers_to_its_id() -> None:
    registry = Registry()
    first = deployment("org/first", version=VERSION)
    registry.add(first)
    assert registry.resolve(f"deploy_id:{first.deploy_id}") is first
    assert registry.resolve(f"deploy_id:{first.deploy_id}:{VERSION}") is first
    with pytest.raises(NotFound, match="deploy_id:nothing"):
        registry.resolve("deploy_id:nothing")


def test_an_id_stands_for_a_name_and_a_version() -> None:
    first = deployment("first", version="1")
    assert first.deploy_id == deployment("first", "alias", version="1").deploy_id
    others = [deployment("first", version="2"), deployment("second", version="1")]
    assert len({first.deploy_id, *(each.deploy_id for each in others)}) == 3


def test_before_the_first_model_everything_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        Registry().resolve("first")


def test_a_long_unknown_name_is_shortened() -> None:
    registry = Registry()
    registry.add(deployment("first"))
    with pytest.raises(NotFound) as caught:
        registry.resolve("x" * 10_000)
    assert len(caught.value.message) < 300
    with pytest.raises(NotFound) as caught:
        registry.resolve("first:" + "x" * 10_000)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("names", [("first",), ("new", "first"), ("alias",)])
def test_a_taken_name_is_refused_and_changes_nothing(names: tuple[str, ...]) -> None:
    registry = Registry()
    first = deployment("first", "alias")
    registry.add(first)
    with pytest.raises(Conflict, match="There is already a model called"):
        registry.add(deployment(*names))
    assert registry.list() == (first,)
    with pytest.raises(NotFound):
        registry.resolve("new")


@pytest.mark.parametrize("state", STATES)
def test_only_moves_of_the_table_are_possible(state: State) -> None:
    for target in STATES:
        entry = Entry("first", "0" * 16, 1, state=state)
        failure = Failure("crashed", "It ended") if target == "failed" else None
        if target in MOVES[state]:
            entry.move(target, failure)
            assert (entry.state, entry.failure) == (target, failure)
        else:
            with pytest.raises(AssertionError):
                entry.move(target, failure)


def test_every_state_can_be_reached_and_left_for_deletion() -> None:
    def reachable(state: State) -> set[State]:
        found: set[State] = {state}
        while (more := found.union(*(MOVES[each] for each in found))) != found:
            found = more
        return found

    assert reachable("initializing") == set(STATES)
    assert all("deleted" in reachable(state) for state in STATES)


async def test_requests_wait_for_what_is_coming() -> None:
    registry, entry = Registry(), Entry("first", "0" * 16, 1)
    registry.enter(entry)
    with pytest.raises(Unavailable, match="`first` is initializing") as caught:
        registry.resolve("first")
    assert caught.value.retry_after == 5
    waiting = asyncio.create_task(registry.await_ready("deploy_id:" + "0" * 16, 30))
    states: tuple[State, ...] = ("downloading", "deploying")
    for state in states:
        await asyncio.sleep(0)
        assert not waiting.done()
        entry.move(state)
    entry.deployment = deployment("first", version=VERSION)
    entry.move("running")
    assert await waiting is entry.deployment
    assert await registry.await_ready(f"first:{VERSION}", 0) is entry.deployment
    with pytest.raises(NotFound):
        await registry.await_ready("first:0000000", 0)


async def test_requests_do_not_wait_for_what_stops_or_takes_too_long() -> None:
    registry, entry = Registry(), Entry("first", "0" * 16, 1)
    registry.enter(entry)
    with pytest.raises(Unavailable, match="initializing"):
        await registry.await_ready("first", 0.001)
    waiting = asyncio.create_task(registry.await_ready("first", 30))
    await asyncio.sleep(0)
    entry.move("stopping")
    with pytest.raises(Unavailable, match="`first` is stopping"):
        await waiting


async def test_nobody_waits_for_what_the_server_starts_with() -> None:
    registry = Registry()
    registry.enter(Entry("first", "0" * 16, 1, required=True))
    with pytest.raises(Unavailable, match="initializing"):
        await registry.await_ready("first", 30)


def test_what_does_not_run_is_no_deployment_yet() -> None:
    registry, entry = Registry(), Entry("first", "0" * 16, 1, aliases=("alias",))
    registry.enter(entry)
    assert (registry.list(), list(registry.names())) == ((), [])
    assert registry.entries() == (entry,)
    assert registry.knows("alias")
    registry.remove(entry)
    assert not registry.knows("alias")


def test_requests_go_to_the_last_of_those_that_replace_each_other() -> None:
    registry = Registry()
    entries = [registry.add(deployment(name, version=VERSION)) for name in ("a", "b", "c")]
    entries[0].replaced_by, entries[1].replaced_by = "b", "c"
    assert registry.resolve(f"a:{VERSION}").name == "c"
    assert (registry.replacement("a"), registry.replacement("c")) == ("c", "")
    assert registry.find("a")[0] is entries[0]
    entries[2].replaced_by = "a"
    with pytest.raises(NotFound, match="`a` was replaced by"):
        registry.resolve("a")


async def test_readiness_follows_the_engine() -> None:
    each = deployment("first")
    seen = [each.ready]
    await each.engine.start(lambda progress: None)
    seen.append(each.ready)
    await each.engine.close()
    assert [*seen, each.ready] == [False, True, False]
