"""What the echo engine says with adapters, and who waits for what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from inferd.engines.base import EngineSpec
from inferd.engines.echo import EchoCore
from inferd.engines.echo_adapters import tokens_of
from inferd.engines.echo_options import Options
from inferd.messages import (
    AdapterDropped,
    AdapterFailed,
    AdapterInfo,
    Event,
    Fail,
    LoadAdapter,
    Sampling,
    Submit,
    Tokens,
)

GREEDY = Sampling(temperature=0.0)


class Clock:
    """Each reading is a second later."""

    def __init__(self) -> None:
        self._seconds: Iterator[int] = iter(range(10**6))

    def __call__(self) -> float:
        return float(next(self._seconds))


def make(delay: float = 0.0, **spec: object) -> EchoCore:
    options = Options(vocab_size=200, adapter_delay=delay)
    return EchoCore(EngineSpec(engine="echo", **spec), options, clock=Clock())  # type: ignore[arg-type]


def write(folder: Path, name: str, **config: object) -> LoadAdapter:
    (folder / name).mkdir()
    (folder / name / "adapter_config.json").write_text(json.dumps(config))
    return LoadAdapter(name, str(folder / name))


def submit(core: EchoCore, name: str, adapter: str = "", count: int = 2) -> list[Event]:
    return core.submit(Submit(name, (7, 8), count, GREEDY, adapter=adapter))


def order(core: EchoCore) -> list[str]:
    """Step until idle: whose tokens came, in order."""
    came: list[str] = []
    while core.busy:
        came += [event.request_id for event in core.step() if isinstance(event, Tokens)]
        core.check()
    return came


def said(core: EchoCore) -> list[int]:
    events: list[Event] = []
    while core.busy:
        events += core.step()
    return [token for e in events if isinstance(e, Tokens) for token in e.token_ids]


def test_says_what_the_config_names_or_else_its_own_id(tmp_path: Path) -> None:
    core = make()
    core.load_adapter(write(tmp_path, "0a1b2c3d4e", r=4, target_modules=["v_proj", "q_proj"]))
    core.load_adapter(write(tmp_path, "named", r=8, echo=[3, 205]))
    assert core.adapter_news() == [
        AdapterInfo("0a1b2c3d4e", 4, 0, ("q_proj", "v_proj")),
        AdapterInfo("named", 8, 0, ()),
    ]
    submit(core, "a", "0a1b2c3d4e", 8)
    assert said(core) == list(b"0a1b2c3d") == list(tokens_of("0a1b2c3d4e", 200))
    submit(core, "a", "named", 3)
    assert said(core) == [3, 5, 3]


def test_who_waits_for_a_slot_is_not_overtaken_by_other_adapters(tmp_path: Path) -> None:
    core = make(max_adapters=1)
    for name in ("one", "two"):
        core.load_adapter(write(tmp_path, name))
    submit(core, "a", "one", 3)
    core.step()
    submit(core, "b", "two", 1)
    submit(core, "c", "one", 1)  # its slot is there, and yet
    submit(core, "d", "", 1)
    assert order(core) == ["a", "d", "a", "b", "c"]


def test_who_waits_for_a_load_holds_up_nobody(tmp_path: Path) -> None:
    core = make(delay=30.0, max_adapters=1)
    core.load_adapter(write(tmp_path, "slow"))
    assert submit(core, "a", "slow", 1) == []
    submit(core, "b", "", 2)
    assert order(core) == ["b", "b", "a"]
    assert [type(news) for news in core.adapter_news()] == [AdapterInfo]


def test_who_waits_for_a_load_that_fails_is_refused(tmp_path: Path) -> None:
    core = make(delay=30.0)
    core.load_adapter(write(tmp_path, "large", r=1000))
    submit(core, "a", "large")
    events: list[Event] = []
    while core.busy:
        events += core.step()
    [fail] = events
    assert isinstance(fail, Fail)
    assert fail.param == "adapter"
    [failed] = core.adapter_news()
    assert isinstance(failed, AdapterFailed)
    assert failed.message == "r: 1000 is not within 1 … 64"


def test_is_dropped_when_the_last_that_waits_has_left(tmp_path: Path) -> None:
    core = make(max_batch_size=1)
    core.load_adapter(write(tmp_path, "one"))
    core.adapter_news()
    submit(core, "runs", "", 9)
    submit(core, "waits", "one", 9)
    core.drop_adapter("one")
    core.step()
    assert core.adapter_news() == []
    core.abort("waits")
    assert core.adapter_news() == [AdapterDropped("one")]
    assert core.stats().adapters_held == 0
