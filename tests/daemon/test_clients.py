"""`inferd chat`, `models` and `status` against a running daemon."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner, Result

from inferd.cli import main
from tests.daemon.daemons import Daemon, Start


def inferd(daemon: Daemon, command: str, *args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, [command, "--url", daemon.url, *args], input=stdin)


def test_models(running: Daemon) -> None:
    result = inferd(running, "models")
    assert result.exit_code == 0
    assert result.output.startswith("bytes")


def test_status(running: Daemon) -> None:
    result = inferd(running, "status")
    assert result.exit_code == 0
    assert re.search(r"^bytes +ready, served for", result.output, re.MULTILINE)
    assert re.search(r"running +0$", result.output, re.MULTILINE)
    assert re.search(r"KV cache +0\.0% used", result.output)


def test_what_is_promised_is_told(start: Start) -> None:
    daemon = start("--deterministic")
    assert re.search(r"^bytes\t\d+ tokens, deterministic$", inferd(daemon, "models").output, re.M)
    status = inferd(daemon, "status").output
    assert re.search(r"^bytes +ready, served for .*, deterministic$", status, re.M)
    about = httpx.get(f"{daemon.url}/models/bytes").json()
    assert about["engine"]["deterministic"] is True
    assert "deterministic" in about["tags"]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_any_form_of_the_url_does(running: Daemon, suffix: str) -> None:
    result = CliRunner().invoke(main, ["models", "--url", running.url + suffix])
    assert result.exit_code == 0


def test_chat_through_a_pipe_takes_a_turn_per_line(running: Daemon) -> None:
    result = inferd(running, "chat", "--max-tokens", "6", stdin="abc\n\nxy\n")
    assert result.output == "abcabc\nabcabc\n"  # the second prompt begins with the first turn
    assert result.exit_code == 0


def test_chat_commands(running: Daemon) -> None:
    lines = "abc\n/reset\nxy\n/help\n/nonsense\n/exit\nnot sent\n"
    result = inferd(running, "chat", "--max-tokens", "4", stdin=lines)
    assert result.output.startswith("abca\nxyxy\n/reset ")
    assert "There is no /nonsense." in result.output
    assert "not" not in result.output.split("/nonsense.")[1]


def test_chat_sends_the_system_prompt(running: Daemon) -> None:
    result = inferd(running, "chat", "--system", "S", "--max-tokens", "4", stdin="ab\n/reset\nc\n")
    assert result.output == "SabS\nScSc\n"


def test_chat_survives_bytes_that_are_not_utf8(running: Daemon) -> None:
    chat = [sys.executable, "-m", "inferd", "chat", "--url", running.url, "--max-tokens", "12"]
    reply = subprocess.run(
        [*chat, "--system", os.fsdecode(b"\xff")], input=b"caf\xe9\n", capture_output=True
    )
    assert (reply.returncode, reply.stderr) == (0, b"")
    assert reply.stdout.decode().startswith("?caf\N{REPLACEMENT CHARACTER}")


def test_chat_says_the_daemons_error(running: Daemon) -> None:
    result = inferd(running, "chat", "--model", "other", stdin="abc\n")
    assert result.exit_code == 1
    assert "`other` does not exist" in result.output


def test_a_missing_key_is_said_plainly(start: Start) -> None:
    daemon = start("--api-key", "sécret")
    for command in ("models", "status"):
        assert "Not authenticated (give it with --api-key)" in inferd(daemon, command).output
        assert inferd(daemon, command, "--api-key", "sécret").exit_code == 0
