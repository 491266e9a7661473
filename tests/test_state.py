"""Where a daemon keeps its state, and that no two share it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inferd.errors import StartError
from inferd.state import default_folder, state_folder


def test_it_is_where_it_is_asked_to_be(tmp_path: Path) -> None:
    asked = tmp_path / "some" / "where"
    with state_folder(str(asked), 0) as folder:
        assert folder == asked
        (folder / "file").write_text("kept")
    assert (asked / "file").read_text() == "kept"
    assert asked.stat().st_mode & 0o077 == 0


def test_by_default_each_port_has_its_own(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    with state_folder(None, 80, environ) as one, state_folder(None, 81, environ) as two:
        assert (one, two) == (tmp_path / "inferd" / "80", tmp_path / "inferd" / "81")


@pytest.mark.parametrize("environ", [{}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}])
def test_without_a_state_home_it_is_the_usual_one(environ: dict[str, str]) -> None:
    assert default_folder(80, environ) == Path.home() / ".local/state/inferd/80"


def test_for_any_port_it_goes_with_the_daemon() -> None:
    with state_folder(None, 0) as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_a_second_daemon_is_refused_by_name(tmp_path: Path) -> None:
    with (
        state_folder(str(tmp_path), 80),
        pytest.raises(
            StartError, match=f"in use by another inferd .process {os.getpid()}"
        ) as caught,
        state_folder(str(tmp_path), 81),
    ):
        pass
    assert caught.value.code == "bad_option"
    assert "--state-dir" in caught.value.hint
    with state_folder(str(tmp_path), 82):
        pass  # given up again


def test_a_daemon_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from inferd.state import state_folder\n"
        "with state_folder(sys.argv[1], 80):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert killed.returncode == -9
    with state_folder(str(tmp_path), 80):
        pass


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StartError, match="cannot be written"),
        state_folder(str(tmp_path / "file" / "below"), 80),
    ):
        pass


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where nobody knows the user
    with (
        pytest.raises(StartError, match="has no home") as caught,
        state_folder(None, 80, {}),
    ):
        pass
    assert "--state-dir" in caught.value.hint
