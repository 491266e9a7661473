"""Numbers as people read them, and the command to copy."""

from __future__ import annotations

import json
import logging
import shlex

import pytest

from inferd.cli.failure import Failure
from inferd.cli.terminal import Terminal, curl_line
from inferd.errors import StartError
from inferd.store import StoreError
from inferd.units import human_bytes, human_seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 29, "1.5 GiB"), (5 << 40, "5.0 TiB")],
)
def test_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3725, "1 h 2 min"), (90_000, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize("chat", [False, True])
def test_the_curl_line_survives_a_shell(chat: bool) -> None:
    words = shlex.split(curl_line("http://h:1", 'it\'s a "model"', needs_key=True, chat=chat))
    assert words[:2] == ["curl", f"http://h:1/v1/{'chat/' * chat}completions"]
    assert words[3] == "Authorization: Bearer $INFERD_API_KEY"
    assert json.loads(words[-1])["model"] == 'it\'s a "model"'


def test_a_start_error_is_told_with_its_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    error = StartError(
        "out_of_memory",
        "It does not fit",
        hint="--max-model-len 10",
        bytes_needed=2 << 30,
        bytes_free=1 << 20,
        log="secret detail",
    )
    failure = Failure.of(error)
    failure.show()
    assert capsys.readouterr().err == (
        "Error: It does not fit\n  needed: 2.0 GiB\n  free:   1.0 MiB\n  --max-model-len 10\n"
    )
    assert failure.exit_code == 1


def test_a_terminal_is_told_which_database_failed(capsys: pytest.CaptureFixture[str]) -> None:
    Failure.of(StoreError("It cannot be read", log="sqlite:///x.db: malformed")).show()
    assert capsys.readouterr().err == "Error: It cannot be read\n  sqlite:///x.db: malformed\n"


def test_plain_progress_is_a_line_per_quarter(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    terminal = Terminal()
    for done in range(4097):
        terminal.progress("weights", done, 4096)
    terminal.progress("warmup", 0, 1)
    terminal.progress("warmup", 1, 1)
    assert caplog.messages == [
        "Loading weights: 0 B of 4.0 KiB",
        "Loading weights: 1.0 KiB of 4.0 KiB",
        "Loading weights: 2.0 KiB of 4.0 KiB",
        "Loading weights: 3.0 KiB of 4.0 KiB",
        "Loading weights: 4.0 KiB of 4.0 KiB",
        "Warming up",
    ]


def test_a_download_of_unknown_size_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    terminal = Terminal()
    for done in range(10):
        terminal.progress("download", done, 0)
    assert caplog.messages == ["Downloading"]
