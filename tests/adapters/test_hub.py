"""Names whose adapters come from a hub (`test_source` has what may go wrong there)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inferd.errors import InvalidRequest
from inferd.hub import Hub
from tests.adapters.folders import write_adapter
from tests.adapters.world import World, world
from tests.hub_server import COMMIT, HubServer, Repo, serve

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with serve() as server:
        yield server


def repo(path: Path, *says: int, **fields: object) -> Repo:
    folder = write_adapter(path / "published", says)
    files = {each.name: each.read_bytes() for each in folder.iterdir()}
    return Repo(files | {"README.md": b"An adapter."}, **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def over(hub: HubServer, path: Path) -> AsyncIterator[World]:
    async with world(path, hub=Hub(endpoint=hub.endpoint, cache=path / "cache")) as w:
        yield w


async def test_a_repository_is_fetched_and_its_commit_told(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["me/pirate"] = repo(tmp_path, 5, branches=("main", "v1", COMMIT))
    async with over(hub, tmp_path) as w:
        status = await w.adapters.load("pirate", "me/pirate", revision="v1")
        assert (status.source, status.revision) == ("me/pirate", COMMIT)
        assert await w.ask("pirate") == (status.generation, (5, 5, 5))
        assert (await w.adapters.load("same", "me/pirate@v1")).generation == status.generation


async def test_a_token_is_used_once_and_kept_nowhere(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["me/secret"] = repo(tmp_path, 5, private=True)
    async with over(hub, tmp_path) as w:
        with pytest.raises(InvalidRequest, match="There is no model called me/secret") as caught:
            await w.adapters.load("a", "me/secret")
        assert caught.value.param == "source"
        await w.adapters.load("a", "me/secret", token="hf_secret")
        assert "hf_secret" not in repr(w.records.all())


async def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    nowhere = Hub(endpoint="http://127.0.0.1:9", cache=tmp_path / "cache")
    async with world(tmp_path, hub=nowhere) as w:
        with pytest.raises(InvalidRequest, match="The hub cannot be reached"):
            await w.adapters.load("a", "me/pirate")
