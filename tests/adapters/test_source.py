"""Adapters from the hub: two files of one commit, and clear refusals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferd.adapters.library import Library, Staged, generation_of
from inferd.adapters.source import Source, Stager
from inferd.errors import Forbidden, InvalidRequest
from inferd.hub import Hub
from inferd.peft_files import CONFIG, TENSORS
from tests import hub_server
from tests.adapters.folders import write_adapter
from tests.adapters.world import until
from tests.hub_server import COMMIT, HubServer, Repo

pytestmark = pytest.mark.anyio


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", (1, 2))


@pytest.fixture
def server(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    files = {name: (adapter / name).read_bytes() for name in (CONFIG, TENSORS)}
    with hub_server.serve() as found:
        found.repos["org/lora"] = Repo(files | {"README.md": b"", "optimizer.pt": b"pickled"})
        found.repos["org/gated"] = Repo(files, gated=True)
        found.repos["org/pickles"] = Repo({CONFIG: b"{}", "adapter_model.bin": b""})
        found.repos["org/model"] = Repo({"config.json": b"{}"})
        yield found


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return Hub(endpoint=server.endpoint, cache=tmp_path / "cache")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


@pytest.mark.parametrize("text", ["org/lora", "org/lora@main", f"org/lora@{COMMIT}"])
async def test_a_repository_is_fetched_and_its_commit_told(
    text: str, library: Library, hub: Hub, server: HubServer, adapter: Path
) -> None:
    staged, commit = await Stager(library, hub).stage(Source(text))
    assert (staged.generation, commit) == (generation_of(adapter), COMMIT)
    assert {each.name for each in staged.folder.iterdir()} == {CONFIG, TENSORS}
    assert not any(each.is_symlink() for each in staged.folder.iterdir())
    assert not any("optimizer" in each for each in server.requests)


async def test_a_token_counts_for_one_load_and_is_not_shown(library: Library, hub: Hub) -> None:
    with pytest.raises(Forbidden) as raised:
        await Stager(library, hub).stage(Source("org/gated"))
    assert raised.value.param == "source"
    source = Source("org/gated", token="hf_secret")
    assert "hf_secret" not in repr(source)
    assert (await Stager(library, hub).stage(source))[1] == COMMIT


@pytest.mark.parametrize(
    ("text", "revision", "said", "param"),
    [
        ("org/nothing", None, "no model called org/nothing", "source"),
        ("org/lora", "v9", "no revision 'v9'", "source"),
        ("org/lora@main", "v9", "different revisions", "revision"),
        ("org/pickles", None, "other formats are not loaded", "source"),
        ("org/model", None, "is not an adapter", "source"),
        ("no-owner", None, "neither an absolute folder nor a hub id", "source"),
        ("org/lora@", None, "neither an absolute folder nor a hub id", "source"),
        ("a/b/c", None, "neither an absolute folder nor a hub id", "source"),
        ("", None, "neither an absolute folder nor a hub id", "source"),
    ],
)
async def test_what_cannot_be_had_names_the_field(
    text: str, revision: str | None, said: str, param: str, library: Library, hub: Hub
) -> None:
    with pytest.raises(InvalidRequest, match=said) as raised:
        await Stager(library, hub).stage(Source(text, revision))
    assert raised.value.param == param


def test_a_daemon_ends_though_one_is_being_copied(adapter: Path, tmp_path: Path) -> None:
    copying, go_on = threading.Event(), threading.Event()

    class Slow(Library):
        def stage(self, source: Path) -> Staged:
            copying.set()
            go_on.wait()
            return super().stage(source)

    async def daemon() -> None:
        stager = Stager(Slow(tmp_path / "library"), Hub())
        task = asyncio.create_task(stager.stage(Source(str(adapter))))
        await until(copying.is_set)
        assert not task.done()

    asyncio.run(daemon())
    go_on.set()
