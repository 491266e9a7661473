"""Names: load, swap, rollback, canary, promote, unload; what is refused changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferd.errors import Conflict, InvalidRequest, NotFound, Unavailable
from tests.adapters.folders import write_adapter
from tests.adapters.world import nothing_leaks, world

pytestmark = pytest.mark.anyio


async def test_a_loaded_name_answers_and_tells_its_generation(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        status = await here.adapters.load("a", here.folder(5, 6))
        assert (status.name, status.base, status.state) == ("a", "echo", "active")
        assert (status.rank, status.modules) == (4, ("q_proj",))
        assert await here.ask("a") == (status.generation, (5, 6, 5))
        assert here.adapters.status("a").served == {status.generation: 1}
        assert (await here.ask("echo"))[0] == ""


async def test_later_changes_of_the_folder_change_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        source = here.folder(5)
        first = await here.adapters.load("a", source)
        write_adapter(Path(source), (9,))
        assert await here.ask("a") == (first.generation, (5, 5, 5))
        swapped = await here.adapters.swap("a", source)
        assert swapped.generation != first.generation
        assert (await here.ask("a"))[1] == (9, 9, 9)


async def test_a_taken_name_is_a_conflict_unless_it_is_the_same_or_to_be_replaced(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        first = await here.adapters.load("a", here.folder(5))
        assert (await here.adapters.load("a", here.folder(5))).generation == first.generation
        with pytest.raises(Conflict):
            await here.adapters.load("a", here.folder(6))
        assert (await here.ask("a"))[1] == (5, 5, 5)
        assert await here.held() == 1
        replaced = await here.adapters.load("a", here.folder(6), replace=True)
        assert [each.generation for each in replaced.previous] == [first.generation]


@pytest.mark.parametrize("name", ["echo", "other"])
async def test_a_models_name_is_taken(tmp_path: Path, name: str) -> None:
    async with world(tmp_path) as here:
        with pytest.raises(Conflict):
            await here.adapters.load(name, here.folder(5))


@pytest.mark.parametrize("name", ["", "a:b", "a b", "/a", "a/", "..", "x" * 129])
async def test_names_that_could_not_be_asked_for_are_refused(tmp_path: Path, name: str) -> None:
    async with world(tmp_path) as here:
        with pytest.raises(InvalidRequest) as raised:
            await here.adapters.load(name, here.folder(5))
        assert raised.value.param == "name"


async def test_what_the_engine_refuses_leaves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        with pytest.raises(InvalidRequest, match="DoRA") as raised:
            await here.adapters.load("a", here.folder(5, use_dora=True))
        assert raised.value.param == "source"
        assert here.adapters.list() == ()
        await nothing_leaks(here)
        assert here.library.generations() == set()
        kept = await here.adapters.load("a", here.folder(6))
        with pytest.raises(InvalidRequest):
            await here.adapters.swap("a", here.folder(5, use_dora=True))
        assert here.adapters.status("a").generation == kept.generation


async def test_rollback_goes_back_and_forth_without_the_engine(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        one = await here.adapters.load("a", here.folder(1))
        two = await here.adapters.swap("a", here.folder(2))
        loads = len(here.engine.loads)
        back = await here.adapters.rollback("a")
        assert back.generation == one.generation
        assert (await here.ask("a"))[1] == (1, 1, 1)
        assert (await here.adapters.rollback("a")).generation == two.generation
        assert len(here.engine.loads) == loads


async def test_rollback_further_back_loads_from_disk(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        first = await here.adapters.load("a", here.folder(1))
        for says in (2, 3, 4):
            await here.adapters.swap("a", here.folder(says))
        assert await here.held() == 2  # the current one, and the one before
        back = await here.adapters.rollback("a", to=first.generation[:8])
        assert back.generation == first.generation
        assert (await here.ask("a"))[1] == (1, 1, 1)
        assert len(back.previous) == 3


async def test_only_so_many_generations_are_kept(tmp_path: Path) -> None:
    async with world(tmp_path, keep_previous=2) as here:
        first = await here.adapters.load("a", here.folder(1))
        for says in (2, 3, 4):
            status = await here.adapters.swap("a", here.folder(says))
        assert len(status.previous) == 2
        assert len(here.library.generations()) == 3
        with pytest.raises(NotFound):
            await here.adapters.rollback("a", to=first.generation)


async def test_there_may_be_nothing_to_roll_back_to(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        with pytest.raises(Conflict):
            await here.adapters.rollback("a")
        with pytest.raises(NotFound):
            await here.adapters.rollback("b")


@pytest.mark.parametrize("percent", [0.5, 10, 33, 50, 100])
async def test_a_canary_gets_exactly_its_percentage(tmp_path: Path, percent: float) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        status = await here.adapters.canary("a", here.folder(2), percent)
        assert status.canary is not None
        for _ in range(400):
            here.adapters.pin("a").release()
        assert here.adapters.status("a").served.get(status.canary.generation) == 4 * percent


async def test_a_canary_is_promoted_or_ended(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        one = await here.adapters.load("a", here.folder(1))
        await here.adapters.canary("a", here.folder(2), 50)
        assert [(await here.ask("a", 1))[1] for _ in range(4)] == [(1,), (2,), (1,), (2,)]
        assert (await here.adapters.stop_trial("a")).canary is None
        assert await here.held() == 1
        await here.adapters.canary("a", here.folder(2), 50)
        promoted = await here.adapters.promote("a")
        assert promoted.canary is None
        assert [each.generation for each in promoted.previous] == [one.generation]
        assert (await here.ask("a", 1))[1] == (2,)
        with pytest.raises(Conflict):
            await here.adapters.promote("a")


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
async def test_percentages_are_checked(tmp_path: Path, percent: float) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        with pytest.raises(InvalidRequest) as raised:
            await here.adapters.canary("a", here.folder(2), percent)
        assert raised.value.param == "percent"


async def test_a_generation_can_be_asked_for_by_its_beginning(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        one = await here.adapters.load("a", here.folder(1))
        await here.adapters.swap("a", here.folder(2))
        assert (await here.ask(f"a:{one.generation[:7]}"))[1] == (1, 1, 1)
        for wrong in ("a:", "a:123", f"a:{one.generation[:6]}", "a:ffffffff", "b"):
            with pytest.raises(NotFound):
                await here.ask(wrong)


async def test_names_may_share_a_generation(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        await here.adapters.load("b", here.folder(1))
        assert await here.held() == 1
        assert await here.adapters.unload("a") is None
        assert (await here.ask("b"))[1] == (1, 1, 1)


async def test_unloading_leaves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        await here.adapters.swap("a", here.folder(2))
        assert await here.adapters.unload("a", wait=True) is None
        assert here.adapters.find("a") is None
        assert await here.held() == 0
        with pytest.raises(NotFound):
            await here.adapters.unload("a")
        with pytest.raises(NotFound):
            await here.ask("a")


@pytest.mark.parametrize("deadline", [-1, float("nan"), float("inf")])
async def test_deadlines_are_checked_before_anything_happens(
    tmp_path: Path, deadline: float
) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        with pytest.raises(InvalidRequest) as raised:
            await here.adapters.unload("a", deadline=deadline)
        assert raised.value.param == "deadline"
        assert here.adapters.status("a").state == "active"


async def test_a_restart_knows_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        await here.adapters.swap("a", here.folder(2))
        await here.adapters.canary("a", here.folder(3), 25)
        await here.adapters.load("b", here.folder(4))
        before = here.adapters.list()
        await here.engine.close()
        async with here.restarted() as again:
            assert again.list() == before
            assert (await again.rollback("a")).previous[-1].generation == before[0].generation


async def test_a_restart_removes_what_nothing_refers_to(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        (tmp_path / "library" / ("0" * 32)).mkdir()
        (tmp_path / "library" / "incoming-x").mkdir()
        await here.engine.close()
        async with here.restarted() as again:
            assert again.find("a") is not None
            assert len(list((tmp_path / "library").iterdir())) == 1


async def test_a_base_that_is_named_must_be_there(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        with pytest.raises(NotFound):
            await here.adapters.load("a", here.folder(1), base="nobody")
        assert (await here.adapters.load("a", here.folder(1), base="other")).base == "echo"


async def test_a_detached_base_makes_its_adapters_wait(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        deployment = here.registry.resolve("echo")
        await here.adapters.detach(deployment)
        assert here.adapters.status("a").state == "waiting"
        with pytest.raises(Unavailable):
            await here.ask("a")
        with pytest.raises(Unavailable):
            await here.adapters.swap("a", here.folder(2))
        await here.adapters.attach(deployment)
        assert (await here.ask("a"))[1] == (1, 1, 1)


async def test_a_damaged_generation_fails_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.adapters.load("a", here.folder(1))
        bad = await here.adapters.load("b", here.folder(2))
        config = here.library.folder(bad.generation) / "adapter_config.json"
        config.write_text("{")
        await here.engine.close()
        async with here.restarted() as again:
            assert again.status("a").state == "active"
            status = again.status("b")
            assert status.state == "failed"
            assert "adapter_config.json" in status.error
            with pytest.raises(Unavailable, match="not loaded"):
                again.pin("b")
            mended = await again.swap("b", here.folder(3))
            assert (mended.state, mended.error) == ("active", "")
            assert await again.unload("b", wait=True) is None


async def test_a_store_that_fails_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        one = await here.adapters.load("a", here.folder(1))
        here.records.full = True
        with pytest.raises(OSError, match="disk full"):
            await here.adapters.swap("a", here.folder(2))
        with pytest.raises(OSError, match="disk full"):
            await here.adapters.load("b", here.folder(3))
        with pytest.raises(OSError, match="disk full"):
            await here.adapters.unload("a")
        here.records.full = False
        assert [each.generation for each in here.adapters.list()] == [one.generation]
        assert await here.held() == 1
