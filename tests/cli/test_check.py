"""`inferd check`: a line per check, and an exit code."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inferd.cli import check, main


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["check", *args])


def status_of(output: str, name: str) -> str:
    match = re.search(rf"^(ok|fail) +{re.escape(name)} ", output, re.MULTILINE)
    assert match, output
    return match[1]


def test_a_working_machine_passes() -> None:
    result = run("--port", "0")
    assert result.exit_code == 0, result.output
    assert re.search(r"ok +demo model +'What is 2 \+ 3\?' is answered with '.*5.*'", result.output)


def test_every_problem_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise OSError("it broke")

    monkeypatch.setattr(check, "demo_answer", broken)
    monkeypatch.setattr(check, "NEEDED_BYTES", 1 << 60)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run("--port", str(port))
    assert result.exit_code == 1
    assert status_of(result.output, "Python") == "ok"
    assert status_of(result.output, "memory") == "fail"
    assert status_of(result.output, f"port {port}") == "fail"
    assert status_of(result.output, "demo model") == "fail"
    assert "OSError: it broke" in result.output


def test_a_compiler_is_optional(tmp_path: Path) -> None:
    """Nothing is compiled: a daemon without kernels answers all the same."""
    environ = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "CXX": "no-such"}
    done = subprocess.run(
        [sys.executable, "-m", "inferd", "check", "--port", "0"],
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"ok +C\+\+ kernels +none: there is no C\+\+ compiler \(no-such\)", done.stdout
    )
    assert status_of(done.stdout, "demo model") == "ok"
    assert done.stderr.count("no C++ kernels") == 1
