"""Models that a live daemon downloads, and serves again when the hub is gone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from tests import hub_server
from tests.daemon.daemons import Daemon, Start
from tests.hub_server import COMMIT, Repo


def deploy(daemon: Daemon, token: str | None) -> dict[str, Any]:
    """The deployment, once it runs or has failed."""
    body = {"model_name": "mine", "hf": {"repo": "org/mine", "token": token}}
    created = httpx.post(f"{daemon.url}/deploy/llm", json=body)
    assert created.status_code == 200, created.text
    return settled(daemon, created.json()["deploy_id"])


def settled(daemon: Daemon, deploy_id: str) -> dict[str, Any]:
    while True:
        status: dict[str, Any] = httpx.get(f"{daemon.url}/deploy/{deploy_id}").json()
        if status["status"] in ("running", "failed"):
            return status
        time.sleep(0.02)


def test_a_gated_model_comes_with_its_token_and_stays(
    start: Start, model_folder: Path, tmp_path: Path
) -> None:
    files = {file.name: file.read_bytes() for file in model_folder.iterdir()}
    keep = ("--state-dir", str(tmp_path / "state"))
    environment = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    with hub_server.serve() as hub:
        hub.repos["org/mine"] = Repo(files, gated=True)
        daemon = start(*keep, HF_ENDPOINT=hub.endpoint, **environment)
        refused = deploy(daemon, None)
        assert refused["failure"]["code"] == "forbidden"
        assert "gated" in refused["fail_reason"]
        httpx.delete(f"{daemon.url}/deploy/{refused['deploy_id']}")
        while httpx.get(f"{daemon.url}/deploy/list").json()[1:]:
            time.sleep(0.02)
        status = deploy(daemon, "hf_secret")
        assert (status["status"], status["version"]) == ("running", COMMIT)
        endpoint = hub.endpoint
        daemon.signal()
        daemon.wait()
        assert not any("hf_secret" in line for line in daemon.out + daemon.err)
    state = b"".join(f.read_bytes() for f in (tmp_path / "state").rglob("*") if f.is_file())
    assert b"org/mine" in state
    assert b"hf_secret" not in state

    again = start(*keep, HF_ENDPOINT=endpoint, **environment)  # nobody listens there now
    assert settled(again, status["deploy_id"])["version"] == COMMIT
