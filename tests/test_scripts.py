"""The scripts: short, from any folder, set up once; pip and Python are played by a small script."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [
    ROOT / "scripts" / name for name in ("setup", "serve", "test", "test_levels", "check", "fix")
]

# Logs its arguments, answers the version check, and makes .venv with itself as its Python.
FAKE_PYTHON = """#!/usr/bin/env bash
echo "$@" >>"$CALLS"
case "$*" in
  "-c "*) exit "${TOO_OLD:-0}" ;;
  --version) echo "Python 3.8.0" ;;
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m pip install"*) printf '#!/usr/bin/env bash\\necho inferd "$@"\\n' >.venv/bin/inferd
                     chmod +x .venv/bin/inferd ;;
esac
"""


class Checkout:
    """A clone with nothing in it but the scripts, and a Python that only pretends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        shutil.copytree(ROOT / "scripts", self.folder / "scripts")
        (self.folder / "pyproject.toml").write_text("[project]\n")
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        self.python = folder / "python"
        self.python.write_text(FAKE_PYTHON)
        self.python.chmod(0o755)
        self._calls = folder / "calls"

    def run(self, script: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        self._calls.write_text("")
        return subprocess.run(
            [self.folder / "scripts" / script, *args],
            cwd=self.elsewhere,
            env=os.environ | {"PYTHON": str(self.python), "CALLS": str(self._calls)} | env,
            capture_output=True,
            text=True,
        )

    @property
    def kernels(self) -> int:
        """How often they were to be compiled."""
        return self._calls.read_text().count("-m inferd_kernels.cpu\n")

    @property
    def installs(self) -> list[str]:
        return [line for line in self._calls.read_text().splitlines() if "pip install" in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("path", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_scripts_are_short_strict_and_executable(path: Path) -> None:
    text = path.read_text()
    assert os.access(path, os.X_OK)
    assert len(text.splitlines()) <= 20
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "set -euo pipefail" in text
    subprocess.run(["bash", "-n", path], check=True)


def test_serve_sets_up_once_and_passes_its_arguments(checkout: Checkout) -> None:
    first = checkout.run("serve", "a model", "--port", "1")
    assert first.stdout == "inferd serve a model --port 1\n"
    assert checkout.installs == ["-m pip install --editable ."]
    second = checkout.run("serve")
    assert second.stdout == "inferd serve\n"
    assert checkout.installs == []


def test_kernels_are_compiled_ahead_and_may_fail(checkout: Checkout) -> None:
    checkout.run("setup")
    assert checkout.kernels == 1
    python = checkout.folder / ".venv" / "bin" / "python"
    python.write_text('#!/usr/bin/env bash\necho "$@" >>"$CALLS"\necho "no compiler" >&2\nexit 1\n')
    done = checkout.run("serve", "a model")
    assert checkout.kernels == 1
    assert (done.stdout, done.stderr) == ("inferd serve a model\n", "no compiler\n")


def test_set_up_again_when_the_project_changes_or_moves(checkout: Checkout) -> None:
    checkout.run("setup")
    (checkout.folder / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    checkout.run("setup")
    assert checkout.installs
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    checkout.run("setup")
    assert checkout.installs


def test_the_extra_includes_the_rest(checkout: Checkout) -> None:
    checkout.run("setup", "dev")
    assert checkout.installs == ["-m pip install --editable .[dev]"]
    for args in ([], ["dev"]):
        checkout.run("setup", *args)
        assert checkout.installs == []


def test_an_interrupted_set_up_is_done_again(checkout: Checkout) -> None:
    (checkout.folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(checkout.python, checkout.folder / ".venv" / "bin" / "inferd")
    checkout.run("setup")
    assert checkout.installs


def test_an_old_python_is_refused_plainly(checkout: Checkout) -> None:
    result = checkout.run("serve", TOO_OLD="1")
    assert result.returncode == 1
    assert "needs Python 3.11 or newer" in result.stderr
    assert "Python 3.8.0" in result.stderr
    assert checkout.installs == []


def test_a_missing_python_is_refused_plainly(checkout: Checkout) -> None:
    result = checkout.run("serve", PYTHON="no-such-python")
    assert result.returncode == 1
    assert "needs Python 3.11 or newer; 'no-such-python' is" in result.stderr
