"""Adapters in the native core: requests get their generation's tokens, and nothing is left over."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.verify_numbers.drive import Transcript, drive, record
from inferd.engines.native.adapters.slots import Slots
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder
from inferd.messages import (
    AdapterDropped,
    AdapterFailed,
    AdapterInfo,
    Fail,
    Finish,
    LoadAdapter,
)
from inferd_scheduler import SchedulerConfig
from tests.engines.native.adapters.cores import SIZE, Expected, ask, load, make, tokens_of
from tests.engines.native.hash_model import HashModel


def test_generations_are_told_apart(model: Decoder, expected: Expected) -> None:
    """The others depend on it."""
    answers = {
        tuple(expected((5, 6, 7), name)) for name in ("", "g0", "g1", "g2", "g3", "g4", "g5")
    }
    assert len(answers) == 7


def test_a_load_is_told_and_its_requests_may_come_first(
    model: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    core = make(model)
    core.load_adapter(LoadAdapter("g0", str(adapters["g0"])))
    assert core.busy
    got = drive(core, [ask("a", "g0"), ask("b"), ask("c", "g0", (9,))])
    assert got["a"].tokens == expected((5, 6, 7), "g0")[:6]
    assert got["b"].tokens == expected((5, 6, 7), "")[:6]
    assert got["c"].tokens == expected((9,), "g0")[:6]
    [info] = core.adapter_news()
    assert info == AdapterInfo("g0", 4, SIZE, ("down_proj", "q_proj"))
    assert core.adapter_news() == []
    stats = core.stats()
    assert (stats.adapters_held, stats.adapters_in_slots, stats.adapter_loads) == (1, 1, 1)
    assert stats.memory.adapters == SIZE
    assert (core.info.max_adapters, core.info.max_adapter_rank) == (2, 64)


def test_a_held_one_is_told_again(model: Decoder, adapters: dict[str, Path]) -> None:
    core = make(model)
    first = load(core, adapters, "g0")
    assert load(core, adapters, "g0") == first


def test_unknown_generations_are_refused(model: Decoder, adapters: dict[str, Path]) -> None:
    core = make(model)
    [fail] = core.submit(ask("a", "g0"))
    assert isinstance(fail, Fail)
    assert (fail.code, fail.param) == ("invalid", "adapter")
    assert not core.busy
    core.drop_adapter("g0")
    assert core.adapter_news() == [AdapterDropped("g0")]


def test_what_does_not_fit_fails_its_requests_and_nothing_else(
    model: Decoder, adapters: dict[str, Path], tmp_path: Path, expected: Expected
) -> None:
    core = make(model)
    load(core, adapters, "g0")
    core.load_adapter(LoadAdapter("bad", str(tmp_path)))
    got = drive(core, [ask("a", "bad"), ask("b", "g0"), ask("c", "bad")])
    for name in "ac":
        end = got[name].end
        assert isinstance(end, Fail)
        assert (end.code, end.param) == ("invalid", "adapter")
        assert "adapter_config.json" in end.message
    assert got["b"].tokens == expected((5, 6, 7), "g0")[:6]
    [failed] = core.adapter_news()
    assert isinstance(failed, AdapterFailed)
    assert (failed.adapter, failed.code) == ("bad", "invalid")
    assert core.stats().adapters_held == 1
    core.load_adapter(LoadAdapter("bad", str(adapters["g1"])))  # another try
    drive(core, ())
    assert isinstance(core.adapter_news()[0], AdapterInfo)


def test_models_that_take_none(model: Decoder, adapters: dict[str, Path]) -> None:
    config = SchedulerConfig(
        max_batch_size=8,
        max_batch_tokens=64,
        num_blocks=60,
        block_size=4,
        max_model_len=100,
        max_adapters=2,
    )
    hashes = NativeCore(HashModel(), config)
    none = make(model, max_adapters=0)
    for core, why in ((hashes, "Hash runs on hash's code"), (none, "--max-adapters 0")):
        assert core.info.max_adapters == core.info.max_adapter_rank == 0
        core.load_adapter(LoadAdapter("g0", str(adapters["g0"])))
        [failed] = core.adapter_news()
        assert isinstance(failed, AdapterFailed)
        assert failed.code == "unsupported"
        assert why in failed.message
        assert not core.busy
        [fail] = core.submit(ask("a", "g0"))
        assert isinstance(fail, Fail)


def test_more_adapters_than_slots(
    model: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    core = make(model)
    load(core, adapters, *adapters)
    asked = [ask(f"{n} {name}", name, (n + 1, 4), 4 + n) for n in range(3) for name in adapters]
    got = drive(core, asked)
    for one in asked:
        assert got[one.request_id].tokens == expected(one.prompt, one.adapter)[: one.max_tokens]
    assert core.stats().adapter_evictions > 0
    assert core.stats().adapters_in_slots == 2


@pytest.mark.parametrize("room", [1, 2, 3])
def test_more_adapters_than_host_memory_holds(
    model: Decoder, adapters: dict[str, Path], expected: Expected, room: int
) -> None:
    """They are read anew; all are served, and never is there more than allowed."""
    core = make(model, host_bytes=room * SIZE)
    infos = load(core, adapters, *adapters)
    assert all(isinstance(info, AdapterInfo) for info in infos)
    asked = [ask(f"{n} {name}", name, (n + 1, 4), 4 + n) for n in range(3) for name in adapters]
    got = drive(core, asked)  # checks the bound at every turn
    for one in asked:
        assert got[one.request_id].tokens == expected(one.prompt, one.adapter)[: one.max_tokens]
    assert core.stats().adapters_held == 6
    assert core.stats().memory.adapters == room * SIZE


def test_one_that_host_memory_cannot_hold(model: Decoder, adapters: dict[str, Path]) -> None:
    [failed] = load(make(model, host_bytes=SIZE - 1), adapters, "g0")
    assert isinstance(failed, AdapterFailed)
    assert failed.code == "out_of_memory"
    assert "--adapter-host-bytes" in failed.message


def test_a_busy_adapter_lets_another_in(
    model: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    """Room for one, and requests for g0 without end: g1 gets its turn all the same."""
    core = make(model, host_bytes=SIZE)
    load(core, adapters, "g0", "g1")
    events = core.submit(ask("first", "g0"))
    core.step()
    events += core.submit(ask("other", "g1"))
    transcripts = {name: Transcript() for name in ("first", "other")}
    for n in range(200):
        name = f"more{n}"
        transcripts[name] = Transcript()
        events += core.submit(ask(name, "g0", count=4))
        for event in [*events, *core.step()]:
            if event.request_id != "first":
                record(transcripts[event.request_id], event)
        events = []
        core.check()
        if transcripts["other"].end is not None:
            break
    assert transcripts["other"].tokens == expected((5, 6, 7), "g1")[:6]
    core.close()


def test_dropped_ones_serve_what_they_have(
    model: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    core = make(model)
    load(core, adapters, "g0")
    events = core.submit(ask("a", "g0", count=8))
    events += core.step()
    core.drop_adapter("g0")
    assert core.adapter_news() == []
    [refused] = core.submit(ask("b", "g0"))
    assert isinstance(refused, Fail)
    transcript = Transcript()
    while core.busy:
        for event in events:
            record(transcript, event)
        events = core.step()
        core.check()
    for event in events:
        record(transcript, event)
    assert transcript.tokens == expected((5, 6, 7), "g0")[:8]
    assert core.adapter_news() == [AdapterDropped("g0")]
    stats = core.stats()
    assert (stats.adapters_held, stats.adapters_in_slots, stats.memory.adapters) == (0, 0, 0)
    assert not any(weights for module in modules(model) for weights in module.slots)


def modules(model: Decoder) -> list[Any]:
    assert model.adaptable is not None
    return list(model.adaptable.modules.values())


def test_a_drop_undone(model: Decoder, adapters: dict[str, Path], expected: Expected) -> None:
    core = make(model)
    load(core, adapters, "g0")
    core.submit(ask("a", "g0"))
    core.step()
    core.drop_adapter("g0")
    core.load_adapter(LoadAdapter("g0", str(adapters["g0"])))
    dropped, info = core.adapter_news()
    assert (dropped, type(info)) == (AdapterDropped("g0"), AdapterInfo)
    core.close()
    assert core.adapter_news() == []
    assert tokens_of(core, ask("b", "g0")) == expected((5, 6, 7), "g0")[:6]


def test_dropped_before_it_was_read(model: Decoder, adapters: dict[str, Path]) -> None:
    core = make(model)
    for name in ("g0", "g1"):
        core.load_adapter(LoadAdapter(name, str(adapters[name])))
        core.drop_adapter(name)
    core.submit(ask("a", ""))
    drive_out(core)
    news = core.adapter_news()
    for name in ("g0", "g1"):
        mine = [one for one in news if one.adapter == name]
        assert isinstance(mine[0], AdapterInfo | AdapterFailed)
        assert mine[1:] == [AdapterDropped(name)]
    assert core.stats().adapters_held == 0


def drive_out(core: NativeCore) -> None:
    while core.busy:
        core.step()
        core.check()


def test_aborts_while_it_is_read_and_while_it_runs(
    model: Decoder, adapters: dict[str, Path]
) -> None:
    core = make(model)
    core.load_adapter(LoadAdapter("g0", str(adapters["g0"])))
    core.submit(ask("a", "g0"))
    assert core.abort("a") == [Finish("a", "abort")]
    core.drop_adapter("g0")
    drive_out(core)
    assert core.adapter_news()[-1] == AdapterDropped("g0")
    load(core, adapters, "g1")
    core.submit(ask("b", "g1"))
    core.step()
    core.drop_adapter("g1")
    assert isinstance(core.abort("b")[-1], Finish)
    core.check()
    assert core.adapter_news() == [AdapterDropped("g1")]
    assert not core.busy


def test_a_folder_that_is_gone_when_it_is_read_again(
    model: Decoder, adapters: dict[str, Path], tmp_path: Path, expected: Expected
) -> None:
    own = {"g0": tmp_path / "g0", "g1": adapters["g1"]}
    shutil.copytree(adapters["g0"], own["g0"])
    core = make(model, host_bytes=SIZE)
    load(core, own, "g0", "g1")
    own["g0"].rename(tmp_path / "away")
    tokens_of(core, ask("a", "g1"))  # evicts g0, should it be there
    end = drive(core, [ask("b", "g0")])["b"].end
    assert isinstance(end, Fail)
    assert end.code == "engine"
    (tmp_path / "away").rename(own["g0"])
    assert tokens_of(core, ask("c", "g0")) == expected((5, 6, 7), "g0")[:6]


def test_prefixes_are_shared_within_a_generation_alone(
    model: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    core = make(model)
    load(core, adapters, "g0", "g1")
    prompt = tuple(range(1, 22))
    for name in ("", "g0", "g1"):
        first, second = (drive(core, [ask("a", name, prompt)])["a"] for _ in range(2))
        assert first.tokens == second.tokens == expected(prompt, name)[:6]
        assert (first.cached_tokens, second.cached_tokens) == (0, 20)


def test_slots_that_cannot_be_filled_fail_their_requests_alone(
    model: Decoder,
    adapters: dict[str, Path],
    expected: Expected,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = make(model)
    load(core, adapters, "g0", "g1")
    fill = Slots.fill

    def full(self: Slots, slot: int, name: str, factors: Any) -> None:
        if name == "g0":
            raise torch.OutOfMemoryError("no room")
        fill(self, slot, name, factors)

    monkeypatch.setattr(Slots, "fill", full)
    got = drive(core, [ask("a", "g0"), ask("b", "g1"), ask("c")])
    end = got["a"].end
    assert isinstance(end, Fail)
    assert (end.code, got["a"].tokens) == ("engine", [])
    assert "no room" in end.log
    assert got["b"].tokens == expected((5, 6, 7), "g1")[:6]
    assert got["c"].tokens == expected((5, 6, 7), "")[:6]
    monkeypatch.undo()
    assert tokens_of(core, ask("d", "g0")) == expected((5, 6, 7), "g0")[:6]


def test_sleep_gives_memory_back_and_forgets_no_adapter(
    model: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    core = make(model)
    load(core, adapters, "g0", "g1")
    prompt = tuple(range(1, 22))
    before = drive(core, [ask("a", "g0", prompt)])["a"].tokens
    awake = core.info.memory
    assert awake.kv_cache == core.info.kv_cache_bytes > 0
    asleep = core.sleep().memory
    assert (asleep.kv_cache, asleep.weights, asleep.adapters) == (0, model.weight_bytes, 2 * SIZE)
    assert not any(weights for module in modules(model) for weights in module.slots)
    assert core.stats().adapters_in_slots == 0
    core.check()
    assert core.wake().memory.kv_cache == awake.kv_cache
    again = drive(core, [ask("b", "g0", prompt)])["b"]
    assert again.tokens == before == expected(prompt, "g0")[:6]
    assert again.cached_tokens == 0  # what was in the KV cache is gone
    assert core.stats().adapters_held == 2
    assert core.stats().adapter_loads == 2


def test_sleep_while_an_adapter_is_read(
    model: Decoder, adapters: dict[str, Path], expected: Expected
) -> None:
    core = make(model)
    core.load_adapter(LoadAdapter("g0", str(adapters["g0"])))
    core.submit(ask("a", "g0"))
    core.step()
    core.abort("a")
    core.sleep()
    drive_out(core)
    core.wake()
    assert tokens_of(core, ask("b", "g0")) == expected((5, 6, 7), "g0")[:6]
