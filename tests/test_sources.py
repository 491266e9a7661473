"""Which local folders callers may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferd.errors import Forbidden, InvalidRequest
from inferd.sources import PathPolicy, check_path, check_source, is_path


def test_hub_ids_are_no_paths() -> None:
    assert not is_path("org/name")
    assert not is_path("org/name@main")
    for path in ("/a", "./a", "../a", "~/a", "~"):
        assert is_path(path)


def test_by_default_no_path_is_allowed(tmp_path: Path) -> None:
    for there in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(Forbidden) as raised:
            check_path(str(there), PathPolicy(), param="lora_path")
        assert raised.value.param == "lora_path"
        assert str(tmp_path) not in raised.value.message


def test_what_is_below_an_allowed_folder_is_allowed(tmp_path: Path) -> None:
    policy = PathPolicy(folders=(tmp_path / "in",))
    (tmp_path / "in" / "a").mkdir(parents=True)
    assert check_path(str(tmp_path / "in" / "a"), policy, param="p") == tmp_path / "in" / "a"
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    for outside in ("out", "in/../out", "in/link", "inside"):
        with pytest.raises(Forbidden):
            check_path(str(tmp_path / outside), policy, param="p")


def test_everywhere_is_everywhere_and_comes_out_absolute(tmp_path: Path) -> None:
    policy = PathPolicy(everywhere=True)
    assert check_source(f"{tmp_path}/x/../y", policy, param="p") == str(tmp_path / "y")
    assert Path(check_source("./y", policy, param="p")).is_absolute()
    assert check_source("org/name", PathPolicy(), param="p") == "org/name"


def test_odd_paths_are_the_callers_fault() -> None:
    for odd in ("/a\0b", "~nobody-of-that-name/a"):
        with pytest.raises(InvalidRequest):
            check_path(odd, PathPolicy(everywhere=True), param="p")
