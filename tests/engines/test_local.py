"""What is particular to a core on a thread: faults of the core, streams, catalog."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferd.engines import catalog
from inferd.engines.base import EngineSpec, Progress
from inferd.engines.echo import EchoCore, create
from inferd.engines.echo_options import Options
from inferd.engines.local import LocalEngine
from inferd.engines.streams import Streams
from inferd.errors import StartError, Unavailable
from inferd.messages import Abort, Event, Fail, Finish, Sampling, Submit, Tokens

pytestmark = pytest.mark.anyio

GREEDY = Sampling(temperature=0.0)


async def collect(engine: LocalEngine, submit: Submit) -> list[Event]:
    async with engine.stream(submit) as events:
        return [event async for event in events]


async def test_a_core_that_raises_ends_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    engine = LocalEngine(create, EngineSpec(model="echo:raise_token=7"))
    await engine.start(lambda progress: None)
    [last] = await collect(engine, Submit("a", (7,), 3, GREEDY))
    assert isinstance(last, Fail)
    assert last.code == "dead"
    assert "raise_token" in last.log
    assert engine.state == "failed"
    with pytest.raises(Unavailable):
        await collect(engine, Submit("b", (1,), 3, GREEDY))
    await engine.close()
    assert "the engine stopped" in caplog.text


class Fragile(EchoCore):
    """Raises on a prompt that begins with 13."""

    def submit(self, submit: Submit) -> list[Event]:
        super().submit(submit)
        if submit.prompt[0] == 13:
            raise RuntimeError("unlucky")
        return []


async def test_a_core_that_raises_on_submit_fails_that_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = LocalEngine(lambda spec, _: Fragile(spec, Options()), EngineSpec())
    await engine.start(lambda progress: None)
    [last] = await collect(engine, Submit("bad", (13,), 3, GREEDY))
    assert isinstance(last, Fail)
    assert last.code == "engine"
    assert "unlucky" in last.log
    assert "unlucky" not in last.message
    assert (await engine.stats()).running == 0
    assert isinstance((await collect(engine, Submit("good", (1,), 3, GREEDY)))[-1], Finish)
    await engine.close()
    assert "unlucky" in caplog.text


def unfit(spec: EngineSpec, on_progress: Callable[[Progress], None]) -> EchoCore:
    raise ZeroDivisionError("no such thing")


async def test_a_factory_that_raises_is_a_failed_start(caplog: pytest.LogCaptureFixture) -> None:
    engine = LocalEngine(unfit, EngineSpec())
    with pytest.raises(StartError, match="no such thing") as caught:
        await engine.start(lambda progress: None)
    assert caught.value.code == "crashed"
    assert "no such thing" not in caught.value.message
    await engine.close()


def nothing() -> None:
    """Admits everything."""


async def test_an_id_stays_taken_until_its_terminal_event() -> None:
    sent: list[Submit | Abort] = []
    streams = Streams(sent.append, nothing)
    submit = Submit("a", (1,), 3, GREEDY)
    async with streams.open(submit):
        pass
    assert sent == [submit, Abort("a")]
    async with streams.open(submit) as events:
        [refusal] = [event async for event in events]
    assert isinstance(refusal, Fail)
    streams.dispatch(Finish("a", "abort"))
    assert len(streams) == 0
    async with streams.open(submit) as events:
        streams.dispatch(Tokens("a", (1,)))
        streams.dispatch(Finish("a", "length"))
        assert [event async for event in events] == [Tokens("a", (1,)), Finish("a", "length")]
    assert sent == [submit, Abort("a"), submit]


async def test_events_of_unknown_ids_are_dropped() -> None:
    sent: list[Submit | Abort] = []
    streams = Streams(sent.append, nothing)
    streams.dispatch(Tokens("ghost", (1,)))
    assert len(streams) == 0


def test_the_catalog_knows_its_engines() -> None:
    assert catalog.find("echo") is create
    with pytest.raises(StartError) as caught:
        catalog.find("nativ")
    assert caught.value.hint == "Did you mean 'native'?"
    with pytest.raises(StartError) as caught:
        catalog.find("xyz")
    assert caught.value.hint == "Engines: native, echo"
