"""Deployments come, run, stop and go, and every failure says why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inferd.deployments import StatsPoint, Step
from inferd.engines.base import is_terminal
from inferd.errors import Conflict, Forbidden, InvalidRequest, NotFound, StartError, Unavailable
from inferd.lifecycle import Failure
from inferd.messages import Event, Sampling, Submit
from inferd.registry import Deployment
from inferd.replicas.instances import Instances
from tests.deployments.site import COMMIT, FOLDER, Site, deployments, spec
from tests.serving import ids

pytestmark = pytest.mark.anyio


def submit(max_tokens: int = 3) -> Submit:
    return Submit("r", ids("ab"), max_tokens, Sampling())


async def ask(deployment: Deployment, max_tokens: int = 3) -> list[Event]:
    async with deployment.engine.stream(submit(max_tokens)) as events:
        return [event async for event in events]


async def held_up(site: Site, gate: str = "fetching") -> str:
    """The id of a deployment that is held up at `gate`."""
    getattr(site.models, gate).open.clear()
    created = await site.deployments.create(spec())
    state = "downloading" if gate == "fetching" else "deploying"
    await site.until(created.deploy_id, state)  # type: ignore[arg-type]
    await asyncio.to_thread(getattr(site.models, gate).reached.wait, 30)
    return created.deploy_id


async def test_it_comes_to_run() -> None:
    async with deployments() as site:
        created = await site.deployments.create(spec(revision="main"), "secret")
        assert (created.state, created.deploy_id) == ("initializing", f"{1:016}")
        status = await site.until(created.deploy_id, "running")
        assert status.version == COMMIT
        assert (status.instances, status.step) == (Instances(1, 0), None)
        assert status.engine is not None
        for name in ("org/name", f"deploy_id:{created.deploy_id}", f"org/name:{COMMIT}"):
            deployment = site.registry.resolve(name)
            assert deployment.deploy_id == created.deploy_id
            assert is_terminal((await ask(deployment))[-1])
        assert site.models.fetched == [("hub/model", "main", "secret")]
        assert site.adapters.told == ["attach org/name"]


async def test_progress_is_told_and_requests_wait() -> None:
    async with deployments() as site:
        deploy_id = await held_up(site)
        await asyncio.sleep(0)  # the step comes from the download's thread
        assert site.deployments.get(deploy_id).step == Step("download", 5, 10)
        with pytest.raises(Unavailable, match="`org/name` is downloading"):
            site.registry.resolve("org/name")
        with pytest.raises(Unavailable, match="is downloading"):
            await site.registry.await_ready("org/name", 0.01)
        waiting = asyncio.create_task(site.registry.await_ready(f"deploy_id:{deploy_id}", 30))
        await asyncio.sleep(0)
        assert not waiting.done()
        site.models.fetching.open.set()
        assert (await waiting).deploy_id == deploy_id


@pytest.mark.parametrize("gate", ["fetching", "reading"])
async def test_a_failure_says_why_and_where(gate: str) -> None:
    async with deployments() as site:
        held = getattr(site.models, gate)
        held.error = StartError("not_found", "It is gone", hint="Look.", bytes_free=3)
        created = await site.deployments.create(spec())
        with pytest.raises(Unavailable, match="is failed"):
            await site.registry.await_ready("org/name", 30)
        status = await site.until(created.deploy_id, "failed")
        state = "downloading" if gate == "fetching" else "deploying"
        assert status.failure == Failure("not_found", "It is gone", "Look.", state, bytes_free=3)  # type: ignore[arg-type]
        held.error = None
        started = await site.deployments.start(created.deploy_id)
        assert started.failure is None
        await site.until(created.deploy_id, "running")


async def test_an_error_of_ours_is_a_failure_without_details() -> None:
    async with deployments() as site:
        site.models.reading.error = RuntimeError("secret detail")
        created = await site.deployments.create(spec())
        failure = (await site.until(created.deploy_id, "failed")).failure
        assert failure is not None
        assert failure.code == "internal_error"
        assert "secret" not in failure.message


async def test_without_room_it_fails_and_holds_nothing() -> None:
    async with deployments(budget=10) as site:
        site.models.need = 11
        created = await site.deployments.create(spec())
        failure = (await site.until(created.deploy_id, "failed")).failure
        assert failure is not None
        assert (failure.code, failure.bytes_needed) == ("out_of_memory", 11)
        assert site.models.ledger.free("cpu") == 10


async def test_an_engine_that_does_not_start_is_a_failure() -> None:
    async with deployments() as site:
        site.models.options = "start=fail"
        created = await site.deployments.create(spec())
        status = await site.until(created.deploy_id, "failed")
        assert status.instances == Instances()


async def test_two_of_one_name() -> None:
    async with deployments() as site:
        results = await asyncio.gather(
            site.deployments.create(spec()),
            site.deployments.create(spec()),
            return_exceptions=True,
        )
        errors = [each for each in results if isinstance(each, BaseException)]
        assert [type(each) for each in errors] == [Conflict]
        assert len(site.deployments.list()) == 1
        assert len(site.table.all()) == 1


async def test_an_adapters_name_is_taken() -> None:
    async with deployments() as site:
        site.adapters.names = {"mine"}
        with pytest.raises(Conflict, match="adapter"):
            await site.deployments.create(spec("mine"))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": "a b"}, "model_name"),
        ({"name": "../x"}, "model_name"),
        ({"name": "a:b"}, "model_name"),
        ({"model": ""}, "model"),
        ({"min_instances": -1}, "settings.min_instances"),
        ({"max_instances": 0}, "settings.max_instances"),
        ({"min_instances": 3, "max_instances": 2}, "settings.max_instances"),
        ({"max_batch_size": 0}, "max_batch_size"),
        ({"num_gpus": 0}, "num_gpus"),
        ({"idle_timeout": 0.0}, "idle_timeout"),
        ({"replaced_by": "org/name"}, "replaced_by"),
    ],
)
async def test_what_makes_no_sense_is_refused(fields: dict[str, Any], param: str) -> None:
    async with deployments() as site:
        with pytest.raises(InvalidRequest) as caught:
            await site.deployments.create(spec(**fields))
        assert caught.value.param == param
        assert not site.deployments.list()


async def test_only_allowed_folders_can_be_named() -> None:
    async with deployments() as site:
        with pytest.raises(Forbidden):
            await site.deployments.create(spec(model="/etc"))
        created = await site.deployments.create(spec(model=str(FOLDER)))
        assert created.spec.model == str(FOLDER)


async def test_stopping_lets_what_runs_finish_and_takes_nothing_new() -> None:
    async with deployments() as site:
        site.models.options = "delay=0.001"
        deploy_id = await site.running()
        deployment = site.registry.resolve("org/name")
        async with deployment.engine.stream(submit(30)) as events:
            await anext(events)
            assert (await site.deployments.stop(deploy_id)).state == "stopping"
            with pytest.raises(Unavailable, match="is stopping"):
                site.registry.resolve("org/name")
            with pytest.raises(Conflict, match="stopping"):
                await site.deployments.start(deploy_id)
            seen = [event async for event in events]
            assert is_terminal(seen[-1])
            assert getattr(seen[-1], "reason", "") == "length"
        status = await site.until(deploy_id, "stopped")
        assert status.instances == Instances()
        assert not site.models.ledger.owners
        assert site.adapters.told == ["attach org/name", "detach org/name"]
        await site.deployments.start(deploy_id)
        await site.until(deploy_id, "running")
        assert len(site.models.fetched) == 1  # what was fetched is kept


async def test_what_outlives_the_drain_is_ended() -> None:
    async with deployments(drain_s=0.05) as site:
        site.models.options = "delay=0.01"
        deploy_id = await site.running()
        async with site.registry.resolve("org/name").engine.stream(submit(4000)) as events:
            await anext(events)
            assert (await site.deployments.stop(deploy_id, wait=True)).state == "stopped"
            last = [event async for event in events][-1]
            assert getattr(last, "code", "") == "dead"


@pytest.mark.parametrize("gate", ["fetching", "reading"])
@pytest.mark.parametrize("gone", [True, False])
async def test_it_can_be_ended_while_it_comes(gate: str, gone: bool) -> None:
    async with deployments() as site:
        deploy_id = await held_up(site, gate)
        waiting = asyncio.create_task(site.registry.await_ready("org/name", 30))
        await asyncio.sleep(0)
        end = site.deployments.delete if gone else site.deployments.stop
        status = await end(deploy_id, wait=True)
        assert status.state == ("deleted" if gone else "stopped")
        with pytest.raises(Unavailable, match="stop"):
            await waiting
        getattr(site.models, gate).open.set()
        if gate == "fetching":
            assert await asyncio.to_thread(site.models.stopped.wait, 30)  # the download, too


async def test_deleting_frees_the_name_and_forgets_its_adapters() -> None:
    async with deployments() as site:
        deploy_id = await site.running()
        assert (await site.deployments.delete(deploy_id, wait=True)).state == "deleted"
        assert site.adapters.told[-1] == "forget org/name"
        assert site.deployments.list() == ()
        assert [each.deploy_id for each in site.deployments.list(("deleted",))] == [deploy_id]
        for change in (site.deployments.delete, site.deployments.start, site.deployments.stop):
            with pytest.raises(NotFound):
                await change(deploy_id)
        with pytest.raises(Unavailable):
            site.registry.resolve("org/name")
        assert await site.running() != deploy_id


async def test_deletions_win_over_stops() -> None:
    async with deployments() as site:
        site.models.options = "delay=0.001"
        deploy_id = await site.running()
        async with site.registry.resolve("org/name").engine.stream(submit(1000)) as events:
            await anext(events)
            await site.deployments.stop(deploy_id)
            assert (await site.deployments.delete(deploy_id)).state == "stopping"
        assert (await site.until(deploy_id, "deleted")).state == "deleted"


async def test_a_stopped_one_can_be_deleted() -> None:
    async with deployments() as site:
        deploy_id = await site.running()
        await site.deployments.stop(deploy_id, wait=True)
        await site.deployments.stop(deploy_id, wait=True)
        assert (await site.deployments.delete(deploy_id, wait=True)).state == "deleted"


async def test_lists_by_status() -> None:
    async with deployments() as site:
        first = await site.running("first")
        second = await site.running("second")
        await site.deployments.stop(second, wait=True)
        assert [each.deploy_id for each in site.deployments.list()] == [first, second]
        assert [each.deploy_id for each in site.deployments.list(("stopped",))] == [second]
        assert site.deployments.list(("failed",)) == ()
        with pytest.raises(NotFound):
            site.deployments.get("none")


async def test_instances_can_be_changed() -> None:
    async with deployments() as site:
        deploy_id = await site.running()
        status = await site.deployments.update(deploy_id, min_instances=0, max_instances=3)
        assert (status.spec.min_instances, status.spec.max_instances) == (0, 3)
        assert site.table.all()[deploy_id].spec == status.spec
        with pytest.raises(InvalidRequest):
            await site.deployments.update(deploy_id, min_instances=4)
        assert site.deployments.get(deploy_id).spec == status.spec


async def test_requests_go_to_what_replaced_it() -> None:
    async with deployments() as site:
        old, new = await site.running("old"), await site.running("new")
        await site.deployments.update(old, replaced_by="new")
        assert site.registry.resolve("old").deploy_id == new
        assert site.registry.resolve(f"deploy_id:{old}").deploy_id == new
        assert site.registry.replacement("old") == "new"
        assert site.registry.replacement("new") == ""
        with pytest.raises(InvalidRequest, match="leads back"):
            await site.deployments.update(new, replaced_by="old")
        await site.deployments.stop(old, wait=True)
        assert (await site.registry.await_ready("old", 1)).deploy_id == new
        await site.deployments.delete(new, wait=True)
        with pytest.raises(NotFound, match="`old` was replaced by `new`, which does not exist"):
            site.registry.resolve("old")
        await site.deployments.update(old, replaced_by="")
        with pytest.raises(Unavailable, match="`old` is stopped"):
            site.registry.resolve("old")


async def test_an_engine_that_gave_up_is_a_failure() -> None:
    async with deployments() as site:
        deploy_id = await site.running()
        await site.registry.resolve("org/name").engine.close()
        status = await site.until(deploy_id, "failed")
        assert status.failure is not None
        assert status.failure.state == "running"
        assert not site.models.ledger.owners


async def test_counts_by_minute_are_its_own() -> None:
    async with deployments() as site:
        deploy_id = await site.running()
        other = await site.running("other")
        counts = site.tally.of("org/name")
        counts.requests += 2
        counts.prompt_tokens += 7
        (point,) = site.deployments.stats(deploy_id, 0, float("inf"))
        assert point == StatsPoint(point.time, 2, 0, 7, 0)
        assert point.time % 60 == 0
        assert site.deployments.stats(other, 0, float("inf")) == ()
        assert site.deployments.stats(deploy_id, 0, point.time) == ()
