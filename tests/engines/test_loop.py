"""The loop that drives a core: when it waits, for how long, and when it checks."""

from __future__ import annotations

from inferd.engines import loop
from inferd.engines.base import EngineSpec
from inferd.engines.echo import EchoCore
from inferd.engines.echo_options import Options
from inferd.engines.wire import Command, GetStats, Message, Stop
from inferd.messages import (
    AdapterFailed,
    Awake,
    EngineStats,
    Event,
    Fail,
    Finish,
    LoadAdapter,
    Sampling,
    Sleep,
    Slept,
    Submit,
    Tokens,
    Wake,
)

GREEDY = Sampling(temperature=0.0)


class Counted(EchoCore):
    """Counts its checks, and the pieces of work that could wait."""

    checks = 0
    rests = 0
    pieces = 0  # left to do

    def rest(self) -> bool:
        self.rests += 1
        self.pieces = max(0, self.pieces - 1)
        return self.pieces > 0

    def check(self) -> None:
        super().check()
        self.checks += 1


def run(core: EchoCore, script: list[list[Command]]) -> tuple[list[float | None], list[Message]]:
    """Give the commands turn by turn, then stop: how long each turn would have waited, and what
    was sent."""
    waits: list[float | None] = []
    sent: list[Message] = []

    def receive(wait: float | None) -> list[Command]:
        waits.append(wait)
        return script.pop(0) if script else [Stop()]

    loop.run(core, receive, sent.extend)
    return waits, sent


def test_a_core_is_checked_once_it_was_quiet_for_a_while() -> None:
    core = Counted(EngineSpec(), Options())
    waits, sent = run(core, [[Submit("a", (5,), 2, GREEDY)], [], [], [], [], [GetStats()]])
    # idle · one more step · idle for the first time · nothing came: rested · checked · so is it now
    assert waits == [None, 0.0, loop.REST_S, loop.QUIET_S, None, None, None]
    assert (core.rests, core.checks) == (1, 1)
    assert [type(one) for one in sent] == [Tokens, Tokens, Finish, EngineStats]


def test_a_request_that_follows_at_once_waits_for_no_check() -> None:
    core = Counted(EngineSpec(), Options())
    waits, _ = run(core, [[Submit("a", (5,), 1, GREEDY)], [Submit("b", (5,), 1, GREEDY)]])
    assert waits == [None, loop.REST_S, loop.REST_S]
    assert (core.rests, core.checks) == (0, 0)


def test_what_can_wait_is_done_piece_by_piece() -> None:
    core = Counted(EngineSpec(), Options())
    core.pieces = 3
    request = Submit("a", (5,), 1, GREEDY)
    waits, _ = run(core, [[request], [], [GetStats()], [request], [], [], []])
    rest, quiet = loop.REST_S, loop.QUIET_S
    # idle · quiet: a piece · nobody but a scrape · a request · quiet anew: a piece, another · done
    assert waits == [None, rest, 0.0, 0.0, rest, 0.0, quiet, None]
    assert (core.rests, core.checks) == (3, 1)


def test_what_a_submit_raises_is_that_requests_end() -> None:
    class Unlucky(EchoCore):
        def submit(self, submit: Submit) -> list[Event]:
            super().submit(submit)
            raise RuntimeError("unlucky")

    core = Unlucky(EngineSpec(), Options())
    _, sent = run(core, [[Submit("a", (5,), 1, GREEDY)]])
    [fail] = sent
    assert isinstance(fail, Fail)
    assert (fail.code, fail.log) == ("engine", "RuntimeError('unlucky')")
    assert not core.busy


def test_a_core_is_checked_before_it_sleeps_and_not_in_its_sleep() -> None:
    core = Counted(EngineSpec(), Options())
    waits, sent = run(core, [[Sleep()], [Wake()], [], []])
    assert waits == [None, None, loop.REST_S, loop.QUIET_S, None]
    assert core.checks == 2
    assert [type(one) for one in sent] == [Slept, Awake]


def test_what_a_load_raises_is_that_adapters_end() -> None:
    class Unlucky(EchoCore):
        def load_adapter(self, load: LoadAdapter) -> None:
            raise RuntimeError("unlucky")

    core = Unlucky(EngineSpec(), Options())
    _, sent = run(core, [[LoadAdapter("one", "/nowhere")], [Submit("a", (5,), 1, GREEDY)]])
    failed = sent[0]
    assert isinstance(failed, AdapterFailed)
    assert (failed.code, failed.log) == ("engine", "RuntimeError('unlucky')")
    assert isinstance(sent[-1], Finish)
