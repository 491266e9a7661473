"""Models and adapters that come and go in a live daemon, and are there again after a kill."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.adapters.folders import write_adapter
from tests.daemon.daemons import Daemon, Start

SAYS = tuple(range(65, 68))  # tokens that an adapter answers with


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def deploy(daemon: Daemon, name: str, folder: Path, **fields: Any) -> str:
    """The id of a new deployment; it is still on its way."""
    body = {"model_name": name, "gpu": "other", "hf": {"repo": str(folder)}} | fields
    reply = httpx.post(f"{daemon.url}/deploy/llm", json=body)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["deploy_id"])


def ask(daemon: Daemon, model: str, max_tokens: int = 6) -> httpx.Response:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "abc"}],
        "max_tokens": max_tokens,
    }
    return httpx.post(f"{daemon.url}/v1/chat/completions", json=body, timeout=30)


def text(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def get(daemon: Daemon, path: str) -> Any:
    return httpx.get(f"{daemon.url}{path}").json()


def ready(daemon: Daemon) -> int:
    return httpx.get(f"{daemon.url}/health/ready").status_code


@pytest.fixture(scope="module")
def daemon(launch: Start) -> Iterator[Daemon]:
    """One for the tests that leave nothing behind."""
    started = launch("--shutdown-timeout", "20", engine="delay=0.001")
    yield started
    started.close()


def test_a_request_waits_for_its_model(daemon: Daemon, model_folder: Path) -> None:
    deploy_id = deploy(daemon, "second", model_folder)
    assert text(ask(daemon, f"deploy_id:{deploy_id}")) == "abcabc"
    status = get(daemon, f"/deploy/{deploy_id}")
    assert (status["status"], status["instances"]) == ("running", {"running": 1, "pending": 0})
    assert text(ask(daemon, f"second:{status['version']}")) == "abcabc"
    assert len(daemon.children) == 2
    metrics = httpx.get(f"{daemon.url}/metrics").text
    assert 'inferd_engine_ready{engine="0",model_name="second"} 1.0' in metrics
    stats = get(daemon, f"/deploy/{deploy_id}/stats")
    assert (stats["total"]["requests"], stats["total"]["completion_tokens"]) == (2, 12)
    assert httpx.delete(f"{daemon.url}/deploy/{deploy_id}").status_code == 200
    until(lambda: get(daemon, f"/deploy/{deploy_id}")["status"] == "deleted")
    assert ask(daemon, "second").status_code == 404
    assert len(daemon.children) == 1
    assert 'inferd_engine_ready{engine="0",model_name="second"}' not in (
        httpx.get(f"{daemon.url}/metrics").text
    )


def test_what_was_deployed_beside_does_not_decide_whether_the_server_is_ready(
    daemon: Daemon, tmp_path: Path
) -> None:
    deploy_id = deploy(daemon, "broken", tmp_path)
    until(lambda: get(daemon, f"/deploy/{deploy_id}")["status"] == "failed")
    status = get(daemon, f"/deploy/{deploy_id}")
    assert status["failure"]["code"] == "not_found"
    assert str(tmp_path) in status["fail_reason"]
    assert ready(daemon) == 200
    assert ask(daemon, "broken").status_code == 503
    assert "broken" not in [each["id"] for each in get(daemon, "/v1/models")["data"]]
    httpx.delete(f"{daemon.url}/deploy/{deploy_id}")


def test_the_command_lines_model_decides_it(daemon: Daemon) -> None:
    (deployment,) = [each for each in get(daemon, "/deploy/list") if each["model_name"] == "bytes"]
    deploy_id = deployment["deploy_id"]
    assert httpx.delete(f"{daemon.url}/deploy/{deploy_id}").status_code == 409
    assert httpx.post(f"{daemon.url}/deploy/{deploy_id}/stop").status_code == 200
    until(lambda: get(daemon, f"/deploy/{deploy_id}")["status"] == "stopped")
    assert ready(daemon) == 503
    assert get(daemon, "/health/ready")["reasons"] == ["bytes is stopped"]
    assert httpx.post(f"{daemon.url}/deploy/{deploy_id}/start").status_code == 200
    until(lambda: ready(daemon) == 200)
    assert text(ask(daemon, "bytes")) == "abcabc"


def test_a_kill_loses_no_deployment_and_no_adapter(
    start: Start, model_folder: Path, tmp_path: Path
) -> None:
    folder = str(tmp_path / "state")
    first = start("--state-dir", folder)
    deploy_id = deploy(first, "second", model_folder)
    assert text(ask(first, "second")) == "abcabc"
    stopped = deploy(first, "third", model_folder)
    assert text(ask(first, "third")) == "abcabc"
    httpx.post(f"{first.url}/deploy/{stopped}/stop")
    for name, base in (("mine", "bytes"), ("yours", "second")):
        source = write_adapter(tmp_path / name, SAYS if base == "bytes" else SAYS[::-1])
        body = {"name": name, "source": str(source), "base": base}
        reply = httpx.post(f"{first.url}/v1/adapters", json=body)
        assert reply.status_code == 200, reply.text
    said = {name: text(ask(first, name)) for name in ("mine", "yours")}
    assert len(set(said.values()) - {"abcabc"}) == 2
    first.signal(signal.SIGKILL)
    first.process.wait(10)

    again = start("--state-dir", folder)
    assert text(ask(again, "second")) == "abcabc"
    assert {name: text(ask(again, name)) for name in said} == said
    assert get(again, f"/deploy/{deploy_id}")["status"] == "running"
    assert get(again, f"/deploy/{stopped}")["status"] == "stopped"
    assert ask(again, "third").status_code == 503
    again.signal()
    assert again.wait() == 0


def test_two_daemons_do_not_share_a_state_folder(start: Start, tmp_path: Path) -> None:
    first = start("--state-dir", str(tmp_path))
    assert first.url
    second = start("--state-dir", str(tmp_path))
    assert second.wait() == 1
    assert f"process {first.process.pid}" in "\n".join(second.err)


def test_the_folder_of_any_port_goes_with_the_daemon(start: Start) -> None:
    daemon = start()
    folder = Path(daemon.line(r"are kept in (\S+),")[1])
    assert daemon.url
    assert (folder / "state.db").is_file()
    daemon.signal()
    assert daemon.wait() == 0
    assert not folder.exists()


def test_an_unusable_database_is_told(start: Start, tmp_path: Path) -> None:
    daemon = start("--database", "mysql://host/name", "--state-dir", str(tmp_path))
    assert daemon.wait() == 1
    assert "mysql is no database that inferd can use" in "\n".join(daemon.err)


def test_without_a_minimum_it_sleeps_and_wakes_for_a_request(start: Start) -> None:
    daemon = start("--min-instances", "0", "--idle-timeout", "0.1")
    assert daemon.url
    (deployment,) = get(daemon, "/deploy/list")
    until(lambda: bool(get(daemon, f"/deploy/{deployment['deploy_id']}")["asleep"]))
    assert ready(daemon) == 200
    assert text(ask(daemon, "bytes")) == "abcabc"


def test_a_shutdown_drains_every_deployment(start: Start, model_folder: Path) -> None:
    daemon = start(engine="delay=0.01")
    deploy(daemon, "second", model_folder)
    assert text(ask(daemon, "second")) == "abcabc"
    body = {"model": "second", "prompt": "abc", "max_tokens": 100, "stream": True}
    with httpx.stream("POST", f"{daemon.url}/v1/completions", json=body, timeout=30) as response:
        lines = response.iter_lines()
        next(lines)
        daemon.signal()
        daemon.line("Finishing 1 running sequence")
        assert list(lines)[-2] == "data: [DONE]"
    assert daemon.wait() == 0
