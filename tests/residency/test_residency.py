"""Who may stay in memory when others need it."""

from __future__ import annotations

import asyncio

import pytest

from inferd.errors import EngineError, StartError
from inferd.ledger import Need
from inferd.residency import Limits
from tests.residency.machine import LIMITS, QUANTUM, Machine, Model, settle

pytestmark = pytest.mark.anyio

SIX = Need(weights=4, kv_cache=1, process=1)  # sleeping lightly frees 1 of 6


def machine(budget: int = 15) -> Machine:
    return Machine({"cpu": budget})


async def served(there: Machine, *names: str) -> list[Model]:
    """Models of 6 bytes, each used once, a second apart."""
    models = []
    for name in names:
        models.append(there.model(name, SIX))
        await there.serve(models[-1])
        await there.clock.advance(1)
    return models


async def test_models_that_fit_stay() -> None:
    there = machine(12)
    await served(there, "a", "b")
    assert there.told() == []
    assert there.ledger.free("cpu") == 0
    there.residency.check()


async def test_the_least_recently_used_goes() -> None:
    there = machine(12)
    a, b = await served(there, "a", "b")
    await there.serve(a)
    await there.clock.advance(5)
    await there.serve(there.model("c", SIX))
    assert there.told() == [("b", 2)]
    assert (a.awake, b.awake) == (True, False)
    assert there.evictions[0].why == "least recently used, idle for 6 s"
    there.residency.check()


async def test_light_sleep_is_preferred_where_it_suffices() -> None:
    there = machine(16)
    await served(there, "a", "b")
    await there.serve(there.model("c", Need(weights=6)))
    assert there.told() == [("a", 1), ("b", 1)]


async def test_who_sleeps_lightly_may_be_put_to_deep_sleep() -> None:
    there = machine(12)
    a, _ = await served(there, "a", "b")
    await there.serve(there.model("c", Need(weights=1)))
    assert a.slept == [1]
    await there.clock.advance(1)
    await there.serve(there.model("d", Need(weights=5)))
    assert a.slept == [1, 2]


async def test_a_large_model_is_not_evicted_where_a_smaller_one_does() -> None:
    there = machine(13)
    small, large = there.model("small", Need(weights=3)), there.model("large", Need(weights=10))
    await there.serve(large)
    await there.clock.advance(1)
    await there.serve(small)
    await there.serve(there.model("c", Need(weights=2)))
    assert there.told() == [("large", 2)]  # it is the older one, and alone suffices
    await there.clock.advance(1)
    await there.serve(small)
    await there.serve(there.model("d", Need(weights=9)))
    assert there.told() == [("large", 2), ("c", 2)]


async def test_one_that_woke_is_not_evicted_before_it_served() -> None:
    there = machine(6)
    (a,) = await served(there, "a")
    b = there.model("b", SIX)
    await b.wake()
    again = asyncio.ensure_future(a.open())
    await settle()
    assert b.awake
    assert not again.done()
    await b.open()
    b.close()
    await settle()
    assert again.done()
    assert there.told() == [("a", 2), ("b", 2)]


async def test_one_that_is_idle_for_a_moment_stays_for_a_while() -> None:
    there = Machine({"cpu": 6}, Limits(quantum=10, least=2))
    a, b = there.model("a", SIX), there.model("b", SIX)
    await there.serve(a)
    await there.clock.advance(1)
    waiting = asyncio.ensure_future(b.open())
    await settle()
    await there.serve(a)
    assert not waiting.done()
    await there.clock.advance(1)
    assert waiting.done()


async def test_a_busy_model_goes_after_its_quantum_and_its_requests_end_first() -> None:
    there = machine(6)
    a, b = there.model("a", SIX), there.model("b", SIX)
    await a.open()
    waiting = asyncio.ensure_future(b.open())
    await settle()
    await there.clock.advance(QUANTUM - 1)
    late = asyncio.ensure_future(a.open())  # within the quantum, so it is served
    await settle()
    assert late.done()
    await there.clock.advance(1)
    too_late = asyncio.ensure_future(a.open())
    await settle()
    assert not too_late.done()
    a.close()
    await settle()
    assert a.awake  # one request of its still runs
    a.close()
    await settle()
    assert waiting.done()
    assert not too_late.done()
    assert there.evictions[0].why == "had its time"
    await there.clock.advance(QUANTUM)
    b.close()
    await settle()
    assert too_late.done()  # and so they take turns


async def test_one_that_does_not_end_its_work_keeps_its_place() -> None:
    there = machine(6)
    a, b = there.model("a", SIX), there.model("b", SIX)
    await a.open()
    waiting = asyncio.ensure_future(b.open())
    await settle()
    await there.clock.advance(QUANTUM)
    await there.clock.advance(LIMITS.drain)
    with pytest.raises(StartError, match="a did not end its work in 60 s"):
        await waiting
    await a.open()  # it takes requests again
    there.residency.check()


async def test_room_that_comes_otherwise_ends_the_draining() -> None:
    there = machine(12)
    a, b, c = (there.model(name, SIX) for name in "abc")
    await a.open()
    await b.open()
    waiting = asyncio.ensure_future(c.open())
    await settle()
    await there.clock.advance(QUANTUM)
    assert b.reservation is not None
    b.reservation.release()
    await settle()
    assert waiting.done()
    assert a.awake
    await a.open()


async def test_who_came_first_is_served_first() -> None:
    there = machine(6)
    a = there.model("a", SIX)
    await a.open()
    large = asyncio.ensure_future(there.serve(there.model("large", SIX)))
    await settle()
    small = asyncio.ensure_future(there.serve(there.model("small", Need(weights=1))))
    await settle()
    a.close()
    await settle()
    assert large.done()
    assert small.done()
    assert there.told() == [("a", 2), ("large", 1)]


async def test_devices_do_not_wait_for_each_other() -> None:
    there = Machine({"cpu": 100, "cuda:0": 10, "cuda:1": 10})
    need = Need(weights=10, host=5)
    await there.model("a", need, "cuda:0").open()
    waiting = asyncio.ensure_future(there.model("b", need, "cuda:0").open())
    await settle()
    await there.serve(there.model("c", need, "cuda:1"))
    assert not waiting.done()
    waiting.cancel()
    await settle()
    there.residency.check()


async def test_a_gpu_model_sleeps_lightly_only_if_its_weights_fit_the_host() -> None:
    need = Need(weights=8, process=1, host=2)
    wide = Machine({"cpu": 20, "cuda:0": 10})
    await wide.serve(wide.model("a", need, "cuda:0"))
    await wide.serve(wide.model("b", need, "cuda:0"))
    assert wide.told() == [("a", 1)]
    assert wide.ledger.reserved("cpu") == 8 + 2 + 2
    await wide.serve(wide.model("c", Need(weights=8, host=2), "cuda:0"))
    assert wide.told() == [("a", 1), ("a", 2), ("b", 1)]  # the host cannot hold both
    assert wide.ledger.reserved("cpu") == 8 + 2 + 2

    narrow = Machine({"cpu": 10, "cuda:0": 10})
    await narrow.serve(narrow.model("a", need, "cuda:0"))
    await narrow.serve(narrow.model("c", Need(weights=8, host=2), "cuda:0"))
    assert narrow.told() == [("a", 2)]


async def test_a_light_sleep_that_needs_what_a_deep_one_frees_comes_after_it() -> None:
    there = Machine({"cpu": 30, "cuda:0": 165})
    await there.serve(there.model("a", Need(weights=25, kv_cache=53, process=11), "cuda:0"))
    await there.clock.advance(1)
    await there.serve(there.model("b", Need(weights=29, kv_cache=33, host=8), "cuda:0"))
    await there.clock.advance(1)
    await there.serve(there.model("c", Need(weights=59, kv_cache=51), "cuda:0"))
    assert there.told() == [("b", 2), ("a", 1)]
    there.residency.check()


async def test_a_waiter_that_leaves_keeps_nothing() -> None:
    there = machine(6)
    a, b, c = (there.model(name, SIX) for name in "abc")
    await a.open()
    leaving, staying = asyncio.ensure_future(b.open()), asyncio.ensure_future(c.open())
    await settle()
    leaving.cancel()
    a.close()
    await settle()
    assert leaving.cancelled()
    assert staying.done()
    there.residency.check()


async def test_a_waiter_that_leaves_while_another_drains_lets_that_go_on() -> None:
    there = machine(6)
    a, b = there.model("a", SIX), there.model("b", SIX)
    await a.open()
    waiting = asyncio.ensure_future(b.open())
    await settle()
    await there.clock.advance(QUANTUM)
    waiting.cancel()
    await settle()
    await a.open()
    assert a.awake
    there.residency.check()


async def test_a_waiter_that_leaves_while_another_falls_asleep_waits_for_that() -> None:
    there = machine(6)
    (a,) = await served(there, "a")
    waiting = asyncio.ensure_future(there.model("b", SIX).open())
    while not a.slept and not waiting.done():
        await asyncio.sleep(0)
        waiting.cancel()
    await settle()
    assert waiting.cancelled()
    assert there.ledger.reserved("cpu") in (0, 6)  # all of a, or nothing
    await there.serve(a)
    there.residency.check()


async def test_a_need_beyond_the_budget_is_refused_at_once() -> None:
    there = machine(15)
    busy = there.model("busy", SIX)
    await busy.open()
    with pytest.raises(StartError) as refused:
        await there.model("a", Need(weights=4, kv_cache=14)).open()
    assert refused.value.code == "out_of_memory"
    assert refused.value.hint == "--kv-cache-bytes 11"
    with pytest.raises(StartError) as refused:
        await there.model("b", Need(weights=14, adapters=3)).open()
    assert refused.value.hint == "--max-adapters 0"
    with pytest.raises(StartError) as refused:
        await there.model("c", Need(weights=16)).open()
    assert refused.value.hint == "--memory-budget 16"
    assert there.told() == []
    there.residency.check()


async def test_memory_that_nobody_can_give_back_is_counted() -> None:
    there = machine(15)
    there.ledger.reserve("the daemon", "", "cpu", Need(process=10))
    with pytest.raises(StartError, match=r"a needs 6 B of memory \(cpu\), and 5 B are free"):
        await there.model("a", SIX).open()


async def test_another_instance_of_a_model_evicts_only_idle_ones() -> None:
    there = machine(12)
    (idle,) = await served(there, "idle")
    model = there.model("a", SIX)
    await model.open()
    spare = await there.residency.acquire(model, "1", "cpu", SIX)
    assert not idle.awake
    spare.release()
    busy = there.model("busy", SIX)
    await busy.open()
    await there.clock.advance(QUANTUM)
    with pytest.raises(StartError):
        await there.residency.acquire(model, "1", "cpu", SIX)
    assert busy.awake


async def test_a_model_that_cannot_sleep_is_passed_over() -> None:
    there = machine(12)
    a, _ = await served(there, "a", "b")
    a.fails_to_sleep = EngineError("it is stuck")
    await there.serve(there.model("c", SIX))
    assert there.told() == [("b", 2)]
    await there.serve(a)
    with pytest.raises(StartError, match="a could not be put to sleep"):
        await there.model("d", Need(weights=12)).open()
    there.residency.check()


async def test_a_load_that_fails_gives_everything_back() -> None:
    there = machine(6)
    model = there.model("a", SIX)
    reservation = await there.residency.acquire(model, "0", "cpu", SIX)
    other = asyncio.ensure_future(there.model("b", SIX).open())
    await settle()
    assert not other.done()  # what loads is not evicted
    reservation.release()
    await settle()
    assert other.done()


async def test_one_that_loads_forever_does_not_keep_others_waiting_forever() -> None:
    there = machine(6)
    await there.residency.acquire(there.model("a", SIX), "0", "cpu", SIX)
    other = asyncio.ensure_future(there.model("b", SIX).open())
    await settle()
    await there.clock.advance(LIMITS.wait)
    with pytest.raises(StartError):
        await other


async def test_waking_grows_what_is_held() -> None:
    there = machine(12)
    a, _ = await served(there, "a", "b")
    await there.serve(there.model("c", Need(weights=1)))
    assert a.reservation is not None
    assert a.reservation.asleep
    await there.serve(a)
    assert a.awake
    assert there.ledger.of("a") == [a.reservation]
    assert there.told() == [("a", 1), ("b", 1)]


async def test_a_preview_changes_nothing() -> None:
    there = machine(12)
    busy = there.model("busy", SIX)
    await busy.open()
    await served(there, "idle")
    assert there.residency.preview("c", "cpu", Need()) == []
    told = there.residency.preview("c", "cpu", Need(weights=12))
    assert [(each.owner, each.level, each.num_bytes) for each in told] == [
        ("idle", 2, 6),
        ("busy", 2, 6),
    ]
    with pytest.raises(StartError):
        there.residency.preview("c", "cpu", Need(weights=13))
    assert there.told() == []
    assert busy.awake
