"""Models from the hub: what is fetched, kept and taken up again, and what is refused."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inferd import hub as hub_module
from inferd.errors import StartError
from inferd.hub import Hub
from inferd.weights import resolve
from tests import hub_server
from tests.checkpoints import MODEL, failure, safetensors, write
from tests.hub_server import COMMIT, HubServer, Repo


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_server.serve() as found:
        found.repos["org/name"] = Repo(MODEL)
        yield found


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return Hub(endpoint=server.endpoint, cache=tmp_path / "cache")


def test_fetches_what_serving_needs(server: HubServer, hub: Hub) -> None:
    server.repos["org/name"].files = MODEL | {
        "pytorch_model.bin": b"x",
        "README.md": b"x",
        "onnx/model.safetensors": b"x",
        "consolidated.safetensors": b"x",
    }
    seen: list[tuple[int, int]] = []
    found = resolve("org/name", hub=hub, on_progress=lambda *step: seen.append(step))
    assert (found.name, found.revision, found.path.name) == ("org/name", COMMIT, COMMIT)
    assert {each.name for each in found.path.iterdir()} == set(MODEL)
    size = sum(map(len, MODEL.values()))
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


def test_a_damaged_download_is_told_of_without_the_caches_place(
    server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    server.repos["org/name"].files = MODEL | {"model.safetensors": b"x" * 20}
    error = failure("org/name", hub=hub)
    assert error.message.startswith("org/name/model.safetensors is not a safetensors file")
    assert str(tmp_path) in str(error)  # the log's


def test_a_second_time_downloads_nothing(server: HubServer, hub: Hub) -> None:
    first = resolve("org/name", hub=hub)
    server.requests.clear()
    assert resolve("org/name", hub=hub) == first
    assert not any("/resolve/" in request for request in server.requests)


@pytest.mark.parametrize(
    ("model", "revision"),
    [
        ("org/name@v1", None),
        ("org/name", "v1"),
        ("org/name@v1", "v1"),
        (f"org/name@{COMMIT}", None),
    ],
)
def test_a_revision(server: HubServer, hub: Hub, model: str, revision: str | None) -> None:
    server.repos["org/name"].branches = ("v1", COMMIT)
    found = resolve(model, revision, hub=hub)
    assert (found.name, found.revision) == ("org/name", COMMIT)


def test_two_revisions_contradict(hub: Hub) -> None:
    assert failure("org/name@v1", "v2", hub=hub).code == "bad_option"


def test_pickles_alone_are_refused_before_any_download(server: HubServer, hub: Hub) -> None:
    server.repos["org/old"] = Repo({"config.json": b"{}", "pytorch_model.bin": b"x"})
    error = failure("org/old", hub=hub)
    assert error.code == "unsupported"
    assert "pytorch_model.bin" in error.message
    assert not any("/resolve/" in request for request in server.requests)


def test_an_unknown_model(hub: Hub) -> None:
    error = failure("org/nothing", hub=hub)
    assert error.code == "not_found"
    assert "org/nothing" in error.message


def test_an_unknown_revision(hub: Hub) -> None:
    error = failure("org/name@v9", hub=hub)
    assert error.code == "not_found"
    assert "'v9'" in error.message


def test_a_gated_model_needs_its_token(server: HubServer, hub: Hub) -> None:
    server.repos["org/gated"] = Repo(MODEL, gated=True)
    error = failure("org/gated", hub=hub)
    assert error.code == "forbidden"
    assert "gated" in error.message
    assert "HF_TOKEN" in error.hint
    with_token = replace(hub, token="hf_secret")
    assert resolve("org/gated", hub=with_token).name == "org/gated"


@pytest.mark.parametrize("kind", ["gated", "private"])
def test_the_cache_serves_nobody_whom_the_hub_refuses(
    server: HubServer, hub: Hub, kind: str
) -> None:
    server.repos["org/mine"] = Repo(MODEL, gated=kind == "gated", private=kind == "private")
    owner = replace(hub, token="hf_secret")
    found = resolve("org/mine", hub=owner)
    for model in ("org/mine", f"org/mine@{COMMIT}"):
        for stranger in (hub, replace(hub, token="hf_other")):
            error = failure(model, hub=stranger)
            assert error.code == {"gated": "forbidden", "private": "not_found"}[kind]
    server.broken = 500  # nobody can say who may read
    assert resolve("org/mine", hub=owner) == found


def test_a_hub_that_is_too_busy_does_not_keep_what_is_cached(server: HubServer, hub: Hub) -> None:
    found = resolve("org/name", hub=hub)
    server.broken = 429
    assert resolve("org/name", hub=hub) == found


def test_a_wrong_token_is_said_to_be_wrong_and_not_repeated(hub: Hub) -> None:
    error = failure("org/name", hub=replace(hub, token="hf_wrong"))
    assert error.code == "forbidden"
    assert "access token" in error.message
    assert "hf_wrong" not in f"{error} {error.message} {error.hint} {hub!r}"


def test_a_token_is_in_no_log(hub: Hub) -> None:
    assert "hf_secret" not in repr(replace(hub, token="hf_secret"))


def test_a_download_that_breaks_off_goes_on_where_it_broke(
    server: HubServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # bytes
    server.repos["org/name"].files = MODEL | {"model.safetensors": safetensors(5000)}
    server.repos["org/name"].cut = {"model.safetensors": 12_345}
    seen: list[tuple[int, int]] = []
    found = resolve("org/name", hub=hub, on_progress=lambda *step: seen.append(step))
    assert (found.path / "model.safetensors").read_bytes() == safetensors(5000)
    resumed = [request for request in server.requests if " bytes=" in request]
    assert [each.rpartition("/")[2] for each in resumed] == ["model.safetensors bytes=12000-"]
    size = sum(map(len, server.repos["org/name"].files.values()))
    assert seen[-1] == (size, size)


def test_a_connection_that_is_reset_is_tried_again(server: HubServer, hub: Hub) -> None:
    server.repos["org/name"].files = MODEL | {"model.safetensors": safetensors(5000)}
    server.repos["org/name"].cut = {"model.safetensors": 100, "tokenizer.json": 0}
    server.repos["org/name"].resets = True
    found = resolve("org/name", hub=hub)
    assert (found.path / "model.safetensors").read_bytes() == safetensors(5000)
    assert server.repos["org/name"].cut == {}


def test_of_a_new_commit_only_what_changed_is_downloaded(server: HubServer, hub: Hub) -> None:
    resolve("org/name", hub=hub)
    changed = {**MODEL, "tokenizer.json": b"[1]"}
    server.repos["org/name"] = Repo(changed, commit="f" * 40, branches=("main", "f" * 40))
    server.requests.clear()
    assert resolve("org/name", hub=hub).revision == "f" * 40
    got = [each for each in server.requests if each.startswith("GET") and "/resolve/" in each]
    assert [each.rpartition("/")[2] for each in got] == ["tokenizer.json"]


def test_who_asked_for_progress_can_end_the_download(hub: Hub) -> None:
    def stop(done: int, total: int) -> None:
        raise StartError("stopped", "not wanted any more")

    with pytest.raises(StartError, match="not wanted any more"):
        resolve("org/name", hub=hub, on_progress=stop)


def test_no_code_is_downloaded(server: HubServer, hub: Hub) -> None:
    code = {"modeling_mine.py": b"x", "tokenizer.py": b"x", "tokenizer_mine.py": b"x"}
    server.repos["org/name"].files = MODEL | code
    assert {each.name for each in resolve("org/name", hub=hub).path.iterdir()} == set(MODEL)


def test_a_branch_that_moved_gives_the_commit_that_was_fetched(server: HubServer, hub: Hub) -> None:
    first = resolve("org/name", hub=hub)
    server.repos["org/name"] = Repo(MODEL, commit="e" * 40, branches=("main", "e" * 40, COMMIT))
    second = resolve("org/name", hub=hub)
    assert (first.revision, second.revision) == (COMMIT, "e" * 40)
    assert resolve(f"org/name@{COMMIT}", hub=hub) == first


def unreachable() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_without_a_network_the_cache_serves(hub: Hub) -> None:
    fetched = resolve("org/name", hub=hub)
    cut_off = Hub(unreachable(), hub.cache)
    assert resolve("org/name", hub=cut_off) == fetched
    error = failure("org/other", hub=cut_off)
    assert error.code == "not_found"
    assert "cannot be reached" in error.message


def test_offline_the_cache_serves(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = resolve("org/name", hub=hub)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve("org/name", hub=hub) == fetched
    error = failure("org/other", hub=hub)
    assert error.code == "not_found"
    assert "HF_HUB_OFFLINE" in error.message


def test_offline_half_a_model_is_not_enough(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    (resolve("org/name", hub=hub).path / "model.safetensors").unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "not all of it" in failure("org/name", hub=hub).message


def test_a_full_disk_is_said_to_be_full() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    error = hub_module.translate(full, "org/name", None)
    assert error.code == "out_of_disk"
    assert "HF_HOME" in error.hint


def test_the_environment_names_the_hub(server: HubServer, tmp_path: Path) -> None:
    code = "from inferd.weights import resolve; print(resolve('org/name').path)"
    environment = os.environ | {
        "HF_ENDPOINT": server.endpoint,
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
    }
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    path = Path(ran.stdout.strip())
    assert path.is_relative_to(tmp_path)
    assert (path / "model.safetensors").read_bytes() == MODEL["model.safetensors"]


def test_where_folders_are_not_asked_for_a_hub_id_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    (tmp_path / "org").mkdir()
    folder = write(tmp_path / "org" / "name", MODEL)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name", hub=hub, local=False).revision == COMMIT
    with pytest.raises(StartError, match="not a hub id"):
        resolve(str(folder), hub=hub, local=False)
