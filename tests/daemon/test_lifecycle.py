"""A daemon's life: start, readiness, drain, force, and every way in which a start can fail."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.daemon.daemons import Daemon, Start, free_port, is_alive


def chat(text: str, max_tokens: int, *, stream: bool = False) -> dict[str, object]:
    return {
        "model": "bytes",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "stream": stream,
    }


@contextmanager
def streaming(daemon: Daemon, max_tokens: int) -> Iterator[Iterator[str]]:
    """A stream whose first text has arrived; iterates over the data of its events."""
    with httpx.stream(
        "POST",
        f"{daemon.url}/v1/chat/completions",
        json=chat("abc", max_tokens, stream=True),
        timeout=30,
    ) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        data = (line.removeprefix("data: ") for line in lines if line.startswith("data: "))
        while '"content":"' not in next(data).replace('"content":""', ""):
            pass
        yield data


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.ConnectError:
        return False


def test_ready_says_how_to_use_it(running: Daemon) -> None:
    assert running.line(r"base URL +(\S+)")[1] == f"{running.url}/v1"
    assert running.line(r"model +(\S+)")[1] == "bytes"
    curl = running.line(r"(curl .*)")[1]
    if shutil.which("curl"):
        done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True)
        reply = json.loads(done.stdout)
        assert reply["choices"][0]["message"]["content"].startswith("Hello!Hello!")


def test_answers(running: Daemon) -> None:
    reply = httpx.post(f"{running.url}/v1/chat/completions", json=chat("abc", 6)).json()
    assert reply["choices"][0]["message"]["content"] == "abcabc"
    assert httpx.get(f"{running.url}/health/ready").status_code == 200


def test_alive_but_not_ready_while_loading(start: Start) -> None:
    port = free_port()
    daemon = start(engine="load_bytes=4000,load_delay=30", port=port)
    url = f"http://127.0.0.1:{port}"
    daemon.line("Loading weights: ")
    assert httpx.get(f"{url}/health/live").status_code == 200
    assert httpx.get(f"{url}/health/ready").status_code == 503
    refused = httpx.post(f"{url}/v1/chat/completions", json=chat("abc", 1))
    assert refused.status_code == 503
    assert "retry-after" in refused.headers


def test_pages_of_a_listed_origin_may_call(start: Start) -> None:
    daemon = start("--cors-origin", "https://a.example")
    reply = httpx.get(f"{daemon.url}/health/live", headers={"origin": "https://a.example"})
    assert reply.headers["access-control-allow-origin"] == "https://a.example"


def test_json_logs_are_json_on_every_line(start: Start) -> None:
    daemon = start("--log-json", engine="load_bytes=4000,load_delay=0.01")
    assert daemon.url
    daemon.signal()
    assert daemon.wait() == 0
    messages = [json.loads(line)["message"] for line in daemon.err]
    assert any(message.startswith("Loading weights: ") for message in messages)
    assert "bytes runs" in messages


def test_alive_but_not_ready_while_downloading(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:  # never answers
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}"
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        daemon = start(model="org/name", port=port, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0")
        until(lambda: answers(url))
        assert httpx.get(f"{url}/health/ready").status_code == 503
        body = chat("a", 1) | {"model": "org/name"}
        assert httpx.post(f"{url}/v1/chat/completions", json=body).status_code == 503
        daemon.signal()
        assert daemon.wait() == 0


def test_sigterm_drains(start: Start) -> None:
    daemon = start(engine="delay=0.01")
    with streaming(daemon, 100) as data:
        daemon.signal()
        daemon.line("Finishing 1 running sequence")
        assert httpx.get(f"{daemon.url}/health/live").status_code == 200
        assert httpx.get(f"{daemon.url}/health/ready").status_code == 503
        refused = httpx.post(f"{daemon.url}/v1/chat/completions", json=chat("abc", 1))
        assert refused.status_code == 503
        *_, last, end = data
    assert json.loads(last)["choices"][0]["finish_reason"] == "length"
    assert end == "[DONE]"
    assert daemon.wait() == 0


def test_what_outlives_the_deadline_ends_in_an_error_event(start: Start) -> None:
    daemon = start("--shutdown-timeout", "0.1", engine="delay=0.01")
    with streaming(daemon, 4000) as data:
        daemon.signal(signal.SIGINT)
        events = list(data)
    (error,) = (json.loads(event)["error"] for event in events if event.startswith('{"error'))
    assert error["code"] == "engine_dead"
    assert error["message"] == "The model was stopped before this request was finished"
    assert daemon.wait() == 0


def test_a_second_signal_forces(start: Start) -> None:
    daemon = start(engine="delay=0.01")
    with streaming(daemon, 4000):
        children = daemon.children
        assert children
        daemon.signal()
        daemon.line("Finishing 1 running sequence")
        daemon.signal()
        assert daemon.wait() == 128 + signal.SIGTERM
    assert not any(map(is_alive, children))


def test_an_idle_daemon_ends_at_once_and_leaves_nothing(start: Start) -> None:
    daemon = start()
    assert daemon.url
    children = daemon.children
    assert children
    daemon.signal(signal.SIGINT)
    assert daemon.wait() == 0
    assert not any(map(is_alive, children))


def test_a_signal_while_loading_ends_it(start: Start) -> None:
    daemon = start(engine="load_bytes=4000,load_delay=30")
    daemon.line("Loading weights: ")
    children = daemon.children
    assert children
    daemon.signal()
    assert daemon.wait() == 0
    assert not any(map(is_alive, children))
    assert not daemon.out


def test_killing_the_daemon_ends_the_models_process(start: Start) -> None:
    daemon = start()
    assert daemon.url
    children = daemon.children
    assert children
    daemon.signal(signal.SIGKILL)
    daemon.process.wait(10)
    until(lambda: not any(map(is_alive, children)))


def test_keys_are_asked_for(start: Start) -> None:
    daemon = start("--api-key", "one", "--api-key", "two")
    url = f"{daemon.url}/v1/models"
    assert "$INFERD_API_KEY" in daemon.line("(curl .*)")[1]
    assert httpx.get(url).status_code in (401, 403)
    for key in ("one", "two"):
        assert httpx.get(url, headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert httpx.get(f"{daemon.url}/health/ready").status_code == 200


def test_names_and_variables(start: Start, model_folder: Path) -> None:
    flags = ("--served-model-name", "first", "--served-model-name", "second")
    daemon = start(*flags, INFERD_MAX_NUM_SEQS="3")
    assert daemon.line(r"model +(\S+)")[1] == "first"
    for name in ("first", "second"):
        body = chat("abc", 3) | {"model": name}
        assert httpx.post(f"{daemon.url}/v1/chat/completions", json=body).status_code == 200
    assert "max_batch_size=3" in daemon.line("first runs .*")[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "./no/such/folder"}, "no/such/folder"),
        ({"engine": "start=fail"}, "needed: "),
        ({"engine": "start=crash"}, "process"),
    ],
    ids=["no model", "out of memory", "crash"],
)
def test_a_failed_start_is_told_plainly(start: Start, options: dict[str, str], words: str) -> None:
    daemon = start(**options)
    assert daemon.wait() == 1
    text = "\n".join(daemon.err)
    assert "Error: " in text
    assert words in text
    assert "Traceback" not in text
    assert not daemon.out


def test_a_taken_port_is_told_before_loading(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        daemon = start(port=port)
        assert daemon.wait() == 1
    error = "\n".join(daemon.err)
    assert f"cannot listen on 127.0.0.1, port {port}: it is in use" in error
    assert "--port" in error
    assert "Traceback" not in error
