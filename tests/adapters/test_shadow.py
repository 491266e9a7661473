"""Shadows: candidates scored on live requests, whose replies they never touch."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from inferd.adapters import shadow
from inferd.adapters.records import ShadowReport
from inferd.messages import Usage
from tests.adapters.world import World, world

pytestmark = pytest.mark.anyio


async def report(here: World) -> ShadowReport:
    """Once everything offered so far has been scored."""
    entry = here.adapters._entry("a")
    assert entry.shadow is not None
    await entry.shadow.idle()
    found = here.adapters.status("a").shadow
    assert found is not None
    return found


async def test_finished_requests_are_scored_and_nothing_else_changes(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        current = await here.adapters.load("a", here.folder(1))
        await here.adapters.shadow("a", here.folder(2))
        for _ in range(3):
            assert await here.ask("a", 4) == (current.generation, (1, 1, 1, 1))
        found = await report(here)
        assert (found.requests, found.tokens, found.dropped, found.failed) == (3, 12, 0, 0)
        # The echo engine scores prompts alike, whatever adapter they come with.
        assert (found.mean_abs, found.max_abs, found.mean) == (0.0, 0.0, 0.0)
        assert here.adapters.status("a").served == {current.generation: 3}


async def test_the_share_is_exact(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        await here.adapters.shadow("a", here.folder(2), 25)
        for _ in range(8):
            await here.ask("a")
        assert (await report(here)).requests == 2


async def test_of_several_choices_the_first_is_scored(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        await here.adapters.shadow("a", here.folder(2))
        usage = (await here.outputs("a", 5, n=3))[-1]
        assert isinstance(usage, Usage)
        assert usage.completion_tokens == 15
        assert (await report(here)).tokens == 5


async def test_a_reply_that_fills_the_context_is_scored_but_for_its_last_token(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, spec={"max_model_len": 32}) as here:
        await here.adapters.load("a", here.folder(1))
        await here.adapters.shadow("a", here.folder(2))
        _, said = await here.ask("a", 22, prompt=tuple(range(10, 20)))
        assert len(said) == 22
        assert (await report(here)).tokens == 21


async def test_one_at_a_time_and_never_more_than_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "QUEUE_REQUESTS", 2)
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        await here.adapters.shadow("a", here.folder(2))
        entry = here.adapters._entry("a")
        assert entry.shadow is not None
        leases = [here.adapters.pin("a") for _ in range(5)]
        for lease in leases:
            lease.served((3, 4), (1, 1), "")
            lease.release()
        found = await report(here)
        assert (found.requests, found.dropped) == (2, 3)


async def test_unfinished_requests_are_not_scored(tmp_path: Path) -> None:
    async with world(tmp_path, "delay=0.001") as here:
        await here.adapters.load("a", here.folder(1))
        await here.adapters.shadow("a", here.folder(2))
        async with here.running("a"):
            pass
        assert (await report(here)).requests == 0


@pytest.mark.parametrize("turns", [0, 1, 5])
@pytest.mark.parametrize("end", ["stop_trial", "promote", "unload", "forget"])
async def test_ending_it_ends_what_is_being_scored(tmp_path: Path, end: str, turns: int) -> None:
    async with world(tmp_path, "delay=0.002") as here:
        await here.adapters.load("a", here.folder(1))
        await here.adapters.shadow("a", here.folder(2))
        await asyncio.gather(*(here.ask("a") for _ in range(4)))
        for _ in range(turns):
            await asyncio.sleep(0)
        match end:
            case "stop_trial":
                assert (await here.adapters.stop_trial("a")).shadow is None
            case "promote":
                assert (await here.adapters.promote("a")).shadow is None
                assert (await here.ask("a"))[1] == (2, 2, 2)
            case "unload":
                assert await here.adapters.unload("a", wait=True) is None
                assert (await here.engine.stats()).adapters_held == 0
            case "forget":
                await here.adapters.forget("echo")
                await here.engine.close()


async def test_a_failing_score_is_counted_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path, "fail_token=9") as here:
        await here.adapters.load("a", here.folder(1))
        await here.adapters.shadow("a", here.folder(9))
        for _ in range(2):
            assert (await here.ask("a"))[1] == (1, 1, 1)
        assert (await report(here)).failed == 2
