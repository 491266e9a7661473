"""`inferd check`: a line per check, and an exit code."""

from __future__ import annotations

import re
import socket
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


def test_a_compiler_is_optional(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert check.compiler().startswith("none")
    compiler = tmp_path / "my-c++"
    compiler.touch(0o755)
    monkeypatch.setenv("CXX", "my-c++")
    assert check.compiler() == str(compiler)
