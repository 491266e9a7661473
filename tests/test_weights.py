"""From a folder that a user named to a whole model, or to an error that says what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferd.weights import resolve, verify, weight_files
from tests.checkpoints import MODEL, failure, safetensors, write


@pytest.mark.parametrize("name", ["demo", "", None])
def test_the_demo_is_built_in(name: str | None) -> None:
    found = resolve(name)
    assert found.name == "demo"
    assert (found.path / "config.json").is_file()


def test_a_local_folder_keeps_its_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", MODEL)
    found = resolve(str(folder))
    assert (found.path, found.name, found.revision) == (folder, "mine", None)


def test_a_relative_folder_goes_before_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org").mkdir()
    folder = write(tmp_path / "org" / "name", MODEL)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name").path == folder


@pytest.mark.parametrize(
    ("missing", "extra", "code", "said"),
    [
        ("config.json", {}, "not_found", "config.json is missing"),
        ("model.safetensors", {}, "not_found", "no weights"),
        ("model.safetensors", {"pytorch_model.bin": b""}, "unsupported", "pytorch_model.bin"),
        ("model.safetensors", {"m.gguf": b""}, "not_found", "no weights"),
    ],
)
def test_a_folder_that_lacks_something(
    tmp_path: Path, missing: str, extra: dict[str, bytes], code: str, said: str
) -> None:
    files = {name: data for name, data in MODEL.items() if name != missing}
    error = failure(str(write(tmp_path / "m", files | extra)))
    assert error.code == code
    assert said in error.message


def test_which_of_several_files_is_the_model(tmp_path: Path) -> None:
    second = {"consolidated.safetensors": safetensors(2), "adapter.safetensors": safetensors(3)}
    folder = write(tmp_path / "m", MODEL | second)
    assert weight_files(folder) == [folder / "model.safetensors"]
    (folder / "model.safetensors").unlink()
    assert weight_files(folder) == [folder / "adapter.safetensors"]
    write(folder, {"other.safetensors": safetensors()})
    error = failure(str(folder))
    assert error.code == "bad_weights"
    assert "2 safetensors files and no model.safetensors.index.json" in error.message


def test_weights_that_may_not_be_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", MODEL)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    assert failure(str(folder)).code == "bad_weights"


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "m", MODEL) / "model.safetensors"
    error = failure(str(file))
    assert (error.code, error.hint) == ("unsupported", "Name the folder that holds it.")


@pytest.mark.parametrize("name", ["./nothing", "/nothing/here/at/all", "a/b/c", "org/name@", "é/x"])
def test_neither_a_folder_nor_a_hub_id(name: str) -> None:
    error = failure(name)
    assert error.code == "not_found"
    assert name in error.message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (safetensors()[:-1], "its header says"),
        (safetensors() + b"x", "its header says"),
        (b"", "cut short"),
        (b"version https://git-lfs.github.com/spec/v1", "cut short"),
        ((3).to_bytes(8, "little") + b"{x}", "damaged header"),
        ((10).to_bytes(8, "little") + b'{"w":null}', "damaged header"),
        ((99_999).to_bytes(8, "little") + b"[" * 99_999, "damaged header"),
        (safetensors().replace(b"[0, 16]", b"[16, 0]"), "damaged header"),
    ],
    ids=[
        *("cut", "too long", "empty", "git-lfs pointer"),
        *("not JSON", "no offsets", "too deep", "backwards"),
    ],
)
def test_damaged_weights_are_found_without_reading_them(
    tmp_path: Path, data: bytes, said: str
) -> None:
    error = failure(str(write(tmp_path / "m", MODEL | {"model.safetensors": data})))
    assert error.code == "bad_weights"
    assert said in error.message


def sharded(*names: str) -> dict[str, bytes]:
    index = json.dumps({"weight_map": {f"w{i}": name for i, name in enumerate(names)}})
    config = {"config.json": b"{}", "model.safetensors.index.json": index.encode()}
    return config | {"model-1.safetensors": safetensors()}


def test_every_indexed_file_must_be_there(tmp_path: Path) -> None:
    verify(write(tmp_path / "m", sharded("model-1.safetensors")))
    error = failure(
        str(write(tmp_path / "m", sharded("model-1.safetensors", "model-2.safetensors")))
    )
    assert error.code == "bad_weights"
    assert "model-2.safetensors is missing" in error.message


@pytest.mark.parametrize("name", ["../model-1.safetensors", "/etc/passwd"])
def test_an_index_may_not_point_elsewhere(tmp_path: Path, name: str) -> None:
    assert failure(str(write(tmp_path / "m", sharded(name)))).code == "bad_weights"
