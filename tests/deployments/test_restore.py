"""A later daemon finds the same deployments; what is on disk was durable when it was told."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferd.deployments import Step
from inferd.deployments.manager import KEPT_DELETED
from inferd.errors import Conflict, StartError
from inferd.registry import Deployment, id_of
from inferd.store import StoreError
from tests.deployments.site import COMMIT, deployments, spec
from tests.serving import TEXT

pytestmark = pytest.mark.anyio


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'state.db'}"


def stored(folder: Path) -> str:
    """All bytes of the database."""
    return "".join(file.read_bytes().decode("latin-1") for file in folder.iterdir())


async def test_the_same_deployments_after_a_restart(tmp_path: Path) -> None:
    async with deployments(url(tmp_path)) as site:
        first = await site.deployments.create(spec("first", revision="main", max_instances=2), "t")
        await site.until(first.deploy_id, "running")
        stopped = await site.running("stopped")
        await site.deployments.stop(stopped, wait=True)
        gone = await site.running("gone")
        await site.deployments.delete(gone, wait=True)
        site.models.fetching.error = StartError("not_found", "There is none")
        failed = (await site.deployments.create(spec("failed"))).deploy_id
        failure = (await site.until(failed, "failed")).failure
        site.models.fetching.error = None
        before = {each.deploy_id: each for each in site.deployments.list()}
    async with deployments(url(tmp_path)) as site:
        again = await site.until(first.deploy_id, "running")
        assert site.models.fetched == []  # the commit that was fetched, without asking the hub
        assert again.version == COMMIT
        assert again.spec == first.spec
        after = {each.deploy_id: each for each in site.deployments.list()}
        assert set(after) == set(before)
        for key, each in after.items():
            assert (each.state, each.created_at) == (before[key].state, before[key].created_at)
        assert after[failed].failure == failure
        assert site.deployments.get(gone).state == "deleted"
        await site.deployments.start(stopped)
        await site.until(stopped, "running")


async def test_no_token_is_stored(tmp_path: Path) -> None:
    async with deployments(url(tmp_path)) as site:
        created = await site.deployments.create(spec(revision="main"), "very-secret")
        await site.until(created.deploy_id, "running")
    assert "main" in stored(tmp_path)
    assert "very-secret" not in stored(tmp_path)


async def test_the_commit_takes_the_place_of_a_branch() -> None:
    async with deployments() as site:
        site.models.reading.error = StartError("bad_weights", "Damaged")
        created = await site.deployments.create(spec(model="hub/model@main"))
        await site.until(created.deploy_id, "failed")
        site.models.reading.error = None
        await site.deployments.start(created.deploy_id)
        await site.until(created.deploy_id, "running")
        assert site.models.fetched == [("hub/model@main", None, None), ("hub/model", COMMIT, None)]


async def test_what_was_on_its_way_comes_again(tmp_path: Path) -> None:
    async with deployments(url(tmp_path)) as site:
        site.models.fetching.open.clear()
        created = await site.deployments.create(spec())
        await site.until(created.deploy_id, "downloading")
    async with deployments(url(tmp_path)) as site:
        await site.until(created.deploy_id, "running")


async def test_a_stop_that_was_cut_short_is_a_stop(tmp_path: Path) -> None:
    async with deployments(url(tmp_path)) as site:
        deploy_id = await site.running()
        await site.deployments.stop(deploy_id)  # durable at once; the daemon ends before it
    async with deployments(url(tmp_path)) as site:
        assert site.deployments.get(deploy_id).state == "stopped"


async def test_a_name_that_was_taken_meanwhile(tmp_path: Path) -> None:
    """The command line names what is stored: that one is told as failed, and can be deleted."""
    async with deployments(url(tmp_path)) as site:
        deploy_id = await site.running()
        engine = site.registry.resolve("org/name").engine
    async with deployments(url(tmp_path), restore=False) as site:
        taken = site.registry.add(Deployment("org/name", engine, TEXT, created=1))
        site.deployments.restore()
        status = site.deployments.get(deploy_id)
        assert status.failure is not None
        assert (status.state, status.failure.code) == ("failed", "conflict")
        with pytest.raises(Conflict):
            await site.deployments.start(deploy_id)
        assert site.registry.find("org/name")[0] is taken
        assert (await site.deployments.delete(deploy_id, wait=True)).state == "deleted"
        assert site.registry.find("org/name")[0] is taken


async def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    async with deployments(url(tmp_path)) as site:
        await site.running()
        site.table.put("x", Step("a", 1, 2))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="deployments x"):
        async with deployments(url(tmp_path)):
            pass


async def test_deleted_ones_are_forgotten_in_the_end() -> None:
    async with deployments() as site:
        for number in range(KEPT_DELETED + 3):
            created = await site.deployments.create(spec(f"n{number}"))
            await site.deployments.delete(created.deploy_id, wait=True)
        kept = [each.model_name for each in site.deployments.list(("deleted",))]
        assert kept == [f"n{number}" for number in range(3, KEPT_DELETED + 3)]
        assert len(site.table.all()) == KEPT_DELETED


async def test_what_the_command_line_names_is_not_stored_and_stays() -> None:
    async with deployments() as site:
        steps: list[Step] = []
        life = await site.deployments.serve(spec("fixed"), steps.append)
        await life.outcome()
        deploy_id = life.entry.deploy_id
        assert deploy_id == id_of("fixed", "hub/model@")  # the same in every daemon
        assert steps[0] == Step("download", 5, 10)
        assert site.table.all() == {}
        assert site.deployments.get(deploy_id).fixed
        with pytest.raises(Conflict, match="command line"):
            await site.deployments.delete(deploy_id)
        assert (await site.deployments.stop(deploy_id, wait=True)).state == "stopped"
        assert site.table.all() == {}


async def test_a_command_line_that_fails_raises_why() -> None:
    async with deployments() as site:
        error = site.models.reading.error = StartError("bad_weights", "Damaged", hint="Fetch")
        life = await site.deployments.serve(spec("fixed"), lambda step: None)
        with pytest.raises(StartError) as caught:
            await life.outcome()
        assert caught.value is error
