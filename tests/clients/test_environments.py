"""Environments are made once, and a failure to make one is said in a line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clients.environments import MAIN, NODE, REQUIREMENTS, Environments, Unavailable


@pytest.fixture
def own(tmp_path: Path) -> Environments:
    """Lists of packages and environments of this test's own; none needs the network."""
    (tmp_path / "empty.in").touch()
    (tmp_path / "empty.txt").touch()
    return Environments(tmp_path / "made", tmp_path, frozenset({"seeing"}))


def test_an_environment_is_made_once_per_list(own: Environments) -> None:
    python = own.prepare("empty")
    subprocess.run([python, "-c", "import sys; assert sys.prefix != sys.base_prefix"], check=True)
    marker = python.parent / "marker"
    marker.touch()
    assert own.prepare("empty") == python
    assert marker.exists()
    (own.requirements / "empty.txt").write_text("# another list\n")
    own.prepare("empty")
    assert not marker.exists()


def test_what_cannot_be_installed_is_unavailable_until_it_can(own: Environments) -> None:
    pins = own.requirements / "empty.txt"
    pins.write_text("./nothing-1.0-py3-none-any.whl\n")
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"pip install …` failed: .*nothing-1\.0"):
            own.prepare("empty")
    pins.write_text("")
    assert own.prepare("empty").exists()


def test_a_group_can_see_the_main_environment(own: Environments) -> None:
    check = ["-c", "import msgspec"]
    assert subprocess.run([own.prepare("empty"), *check], capture_output=True).returncode == 1
    (own.requirements / "seeing.txt").touch()
    subprocess.run([own.prepare("seeing"), *check], check=True)


def test_without_node_its_clients_are_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="node and npm are not installed"):
        Environments(tmp_path, path=str(tmp_path)).prepare(NODE)


def test_all_lists_are_pinned(own: Environments) -> None:
    assert own.groups() == ["empty", NODE]
    for wanted in REQUIREMENTS.glob("*.in"):
        lines = wanted.with_suffix(".txt").read_text().splitlines()
        assert lines
        assert all("==" in line for line in lines)


def test_the_main_environment_is_this_one() -> None:
    subprocess.run([Environments().prepare(MAIN), "-c", "import pytest"], check=True)
