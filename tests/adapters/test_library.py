"""What makes a generation: config and tensors, and nothing else."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from inferd.adapters.library import Library, generation_of
from inferd.errors import InferdError, InvalidRequest, StartError
from inferd.peft_files import CONFIG, TENSORS
from tests.adapters.folders import write_adapter


def test_the_same_content_is_the_same_generation(tmp_path: Path) -> None:
    one = write_adapter(tmp_path / "one", target_modules=["q_proj", "v_proj"])
    two = write_adapter(tmp_path / "two", target_modules=["v_proj", "q_proj"])
    (two / "README.md").write_text("of no importance")
    (two / CONFIG).write_text(json.dumps(json.loads((two / CONFIG).read_text()), indent=4))
    assert generation_of(one) == generation_of(two)
    assert len(generation_of(one)) == 32


def test_the_order_of_tensors_in_the_file_does_not_matter(tmp_path: Path) -> None:
    one, two = write_adapter(tmp_path / "one"), write_adapter(tmp_path / "two")
    small, large = np.zeros(2, np.float32), np.ones(9, np.float32)
    save_file({"a": small, "b": large}, one / TENSORS)
    header = {
        "b": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]},
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [36, 44]},
        "__metadata__": {"format": "pt"},
    }
    text = json.dumps(header).encode()
    data = large.tobytes() + small.tobytes()
    (two / TENSORS).write_bytes(len(text).to_bytes(8, "little") + text + data)
    assert generation_of(one) == generation_of(two)


@pytest.mark.parametrize("change", ["config", "value", "name", "dtype"])
def test_any_change_is_another_generation(tmp_path: Path, change: str) -> None:
    folder = write_adapter(tmp_path / "a")
    before = generation_of(folder)
    zeros = np.zeros((4, 8), np.float32)
    match change:
        case "config":
            write_adapter(folder, lora_alpha=99)
        case "value":
            save_file({"x.lora_A.weight": zeros + 1}, folder / TENSORS)
        case "name":
            save_file({"y.lora_A.weight": zeros}, folder / TENSORS)
        case "dtype":
            save_file({"x.lora_A.weight": zeros.astype(np.int32)}, folder / TENSORS)
    assert generation_of(folder) != before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / TENSORS).unlink(), "adapter_model.safetensors is missing"),
        (lambda f: (f / TENSORS).rename(f / "adapter_model.bin"), "can run code"),
        (lambda f: (f / CONFIG).unlink(), "adapter_config.json is missing"),
        (lambda f: (f / CONFIG).write_text("{"), "adapter_config.json is not JSON"),
        (lambda f: (f / CONFIG).write_text("[" * 100_000), "adapter_config.json is not JSON"),
        (lambda f: (f / CONFIG).write_text("[]"), "not a JSON object"),
        (lambda f: (f / CONFIG).write_text(" " * (2 << 20)), "bytes; at most"),
        (lambda f: (f / TENSORS).write_bytes(b"PK"), "adapter_model.safetensors is not"),
        (lambda f: (f / TENSORS).write_bytes((f / TENSORS).read_bytes()[:-1]), "where its header"),
    ],
)
def test_a_folder_that_is_no_adapter_is_refused(tmp_path: Path, spoil: object, said: str) -> None:
    folder = write_adapter(tmp_path / "a")
    assert callable(spoil)
    spoil(folder)
    library = Library(tmp_path / "library")
    with pytest.raises(InvalidRequest, match=said) as raised:
        library.stage(folder)
    assert raised.value.param == "source"
    assert str(tmp_path) not in raised.value.message
    assert not (tmp_path / "library").exists() or not list((tmp_path / "library").iterdir())


def test_gigabytes_without_a_header_are_not_copied(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    with (folder / TENSORS).open("wb") as file:
        file.truncate(8 << 30)
    with pytest.raises(InvalidRequest, match="is not a safetensors file"):
        Library(tmp_path / "library").stage(folder)
    assert not (tmp_path / "library").exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_a_file_that_is_longer_than_it_said_is_not_followed(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / CONFIG).unlink()
    (folder / CONFIG).symlink_to("/proc/self/status")  # whose length is said to be 0
    with pytest.raises(InvalidRequest, match="grows while it is read"):
        Library(tmp_path / "library").stage(folder)
    assert not list((tmp_path / "library").iterdir())


def test_there_may_be_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no such folder"):
        Library(tmp_path / "library").stage(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, StartError), (errno.EIO, InvalidRequest)]
)
def test_a_copy_that_breaks_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[InferdError]
) -> None:
    def break_off(*args: object) -> None:
        raise OSError(number, "no luck")

    monkeypatch.setattr("os.fsync", break_off)
    with pytest.raises(error, match="no luck"):
        Library(tmp_path / "library").stage(write_adapter(tmp_path / "a"))
    assert not list((tmp_path / "library").iterdir())


def test_adopting_twice_keeps_one(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    folder = write_adapter(tmp_path / "a")
    first, second = library.stage(folder), library.stage(folder)
    library.adopt(first)
    library.adopt(second)
    assert library.generations() == {first.generation}
    assert len(list((tmp_path / "library").iterdir())) == 1
    library.remove(first.generation)
    assert not library.has(first.generation)
