"""Loading: which tensors, from where, in what dtype; and how a folder can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inferd.engines.native.decoder import Decoder, load_decoder
from inferd.engines.native.memory import weight_bytes
from inferd.errors import StartError
from inferd.weights import INDEX
from tests.engines.native import tiny

CPU = torch.device("cpu")
Tensors = dict[str, torch.Tensor]
UP = "model.layers.1.mlp.up_proj.weight"


def load(folder: Path, dtype: torch.dtype | None = None) -> Decoder:
    return load_decoder(folder, dtype=dtype, device=CPU, on_progress=lambda done, total: None)


def logits(decoder: Decoder) -> torch.Tensor:
    batch = tiny.PagedCache(decoder).batch({0: [5, 1, 77, 3, 198, 42, 9]})
    return decoder.logits(decoder.forward(batch))


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return tiny.write_checkpoint("llama", tmp_path)


def test_progress_counts_every_byte_once(llama: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_decoder(
        llama, dtype=None, device=CPU, on_progress=lambda done, total: seen.append((done, total))
    )
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert {total for _, total in seen} == {weight_bytes(llama, None)}
    assert seen[-1][0] == seen[-1][1]


def shard(folder: Path) -> None:
    """Cut a checkpoint into three files with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        part = {name: tensors[name] for name, where in weight_map.items() if where == file}
        save_file(part, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_shards_give_the_same_model(llama: Path) -> None:
    whole = logits(load(llama))
    size = weight_bytes(llama, None)
    shard(llama)
    assert torch.equal(logits(load(llama)), whole)
    assert weight_bytes(llama, None) == size


def test_a_running_model_does_not_depend_on_its_files(llama: Path) -> None:
    decoder = load(llama)
    before = logits(decoder)
    weights = llama / "model.safetensors"
    weights.write_bytes(b"\0" * weights.stat().st_size)
    assert torch.equal(logits(decoder), before)


def test_weights_are_cast_once_loaded(llama: Path) -> None:
    wide, narrow = load(llama), load(llama, torch.bfloat16)
    assert (wide.dtype, narrow.dtype) == (torch.float32, torch.bfloat16)
    assert narrow.weight_bytes < 0.51 * wide.weight_bytes


def test_the_dtype_is_config_json_s_unless_asked(llama: Path) -> None:
    tiny.edit_config(llama, dtype="bfloat16")
    assert load(llama).dtype == torch.bfloat16
    tiny.edit_config(llama, dtype=..., torch_dtype="float16")
    assert load(llama).dtype == torch.float16
    assert load(llama, torch.float32).dtype == torch.float32
    tiny.edit_config(llama, torch_dtype="float8_e4m3fn")
    with pytest.raises(StartError, match="float8_e4m3fn"):
        load(llama)


def test_extra_tensors_that_old_checkpoints_hold(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("llama-bias-tied", tmp_path)
    before = logits(load(folder))
    rewrite(
        folder,
        lambda tensors: {
            **tensors,
            "lm_head.weight": torch.zeros(tiny.VOCAB, 60),
            "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(5),
        },
    )
    assert torch.equal(logits(load(folder)), before)


def mixtral_layout(tensors: Tensors) -> Tensors:
    """Experts one by one under their first names: w1 the gate, w3 up, w2 down."""
    names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    renamed = {}
    for name, tensor in tensors.items():
        name = name.replace(".mlp.", ".block_sparse_moe.")
        for new, old in names.items():
            name = name.replace(f".{new}.", f".{old}.")
        renamed[name] = tensor
    return renamed


def single_layout(tensors: Tensors) -> Tensors:
    """Experts one by one under the dense MLP's names."""
    names = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
    renamed = {}
    for name, tensor in tensors.items():
        name = name.replace(".block_sparse_moe.", ".mlp.")
        for old, new in names.items():
            name = name.replace(f".{old}.", f".{new}.")
        renamed[name] = tensor
    return renamed


def stacked_layout(tensors: Tensors) -> Tensors:
    """All experts of a layer in one tensor."""
    tensors = single_layout(tensors)
    stacked = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    for layer in range(3):
        prefix = f"model.layers.{layer}.mlp.experts."
        experts = range(5)
        stacked[prefix + "gate_up_proj"] = torch.stack(
            [
                torch.cat(
                    [
                        tensors[f"{prefix}{e}.gate_proj.weight"],
                        tensors[f"{prefix}{e}.up_proj.weight"],
                    ]
                )
                for e in experts
            ]
        )
        stacked[prefix + "down_proj"] = torch.stack(
            [tensors[f"{prefix}{e}.down_proj.weight"] for e in experts]
        )
    return stacked


def test_experts_in_every_layout(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("mixtral", tmp_path)
    first = logits(load(folder))
    for layout in (single_layout, mixtral_layout, stacked_layout):
        rewrite(folder, layout)
        assert torch.equal(logits(load(folder)), first), layout.__name__


def test_fused_projections_in_any_family(llama: Path) -> None:
    def fuse(tensors: Tensors) -> Tensors:
        for i in range(3):
            attention, mlp = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp."
            for prefix, names, fused in (
                (attention, ("q_proj", "k_proj", "v_proj"), "qkv_proj"),
                (mlp, ("gate_proj", "up_proj"), "gate_up_proj"),
            ):
                parts = [tensors.pop(f"{prefix}{name}.weight") for name in names]
                tensors[f"{prefix}{fused}.weight"] = torch.cat(parts)
        return tensors

    before = logits(load(llama))
    rewrite(llama, fuse)
    assert torch.equal(logits(load(llama)), before)


def without(tensors: Tensors, name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: without(t, UP), f"are missing: {UP}"),
        (lambda t: without(t, "lm_head.weight"), "are missing: lm_head.weight"),
        (lambda t: {**t, "model.extra": torch.zeros(1)}, "do not belong .*: model.extra"),
        (
            lambda t: {**t, UP: t[UP][:-1].contiguous()},
            rf"wrong shape: {UP} \[87, 60\] instead of \[88, 60\]",
        ),
        (
            lambda t: {name: tensor for name, tensor in t.items() if ".layers." not in name},
            "are missing: .* and 24 more",
        ),
    ],
    ids=["missing", "headless", "unexpected", "shape", "many"],
)
def test_wrong_tensors(llama: Path, change: Callable[[Tensors], Tensors], words: str) -> None:
    rewrite(llama, change)
    with pytest.raises(StartError, match=words) as caught:
        load(llama)
    assert caught.value.code == "bad_weights"


def test_integer_weights_are_refused(llama: Path) -> None:
    rewrite(llama, lambda t: {**t, UP: t[UP].to(torch.int8)})
    with pytest.raises(StartError, match="stored as I8") as caught:
        load(llama)
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_files(llama: Path, keep: int) -> None:
    weights = llama / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(StartError, match=r"model\.safetensors") as caught:
        load(llama)
    assert caught.value.code == "bad_weights"


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        b'{"a": {"dtype": "F32", "shape": 3, "data_offsets": [0, 4]}}',
    ],
)
def test_broken_headers(llama: Path, header: bytes) -> None:
    content = len(header).to_bytes(8, "little") + header + b"\0" * 4
    (llama / "model.safetensors").write_bytes(content)
    with pytest.raises(StartError, match=r"model\.safetensors has a damaged header") as caught:
        load(llama)
    assert caught.value.code == "bad_weights"


def test_offsets_that_the_header_check_cannot_see(llama: Path) -> None:
    """Two tensors over the same bytes: found when the file is opened."""
    raw = (llama / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    first, second = (key for key in header if key.endswith("up_proj.weight") and "0." not in key)
    header[first]["data_offsets"] = header[second]["data_offsets"]
    text = json.dumps(header).encode()
    (llama / "model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + raw[8 + length :]
    )
    with pytest.raises(StartError, match="cannot be read") as caught:
        load(llama)
    assert caught.value.code == "bad_weights"


def test_pickles_are_refused(llama: Path) -> None:
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    with pytest.raises(StartError, match=r"pickled weights only \(pytorch_model\.bin\)") as caught:
        load(llama)
    assert caught.value.code == "unsupported"


def test_no_weights(llama: Path) -> None:
    (llama / "model.safetensors").unlink()
    with pytest.raises(StartError, match=r"no \*\.safetensors file") as caught:
        load(llama)
    assert caught.value.code == "not_found"


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("{", "not a checkpoint's index"),
        ('{"weight_map": ["a"]}', "not a checkpoint's index"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', r"names '\.\./secret\.safetensors'"),
        ('{"weight_map": {"a": "gone.safetensors"}}', r"gone\.safetensors.* is missing"),
    ],
)
def test_broken_indexes(llama: Path, index: str, words: str) -> None:
    (llama / INDEX).write_text(index)
    with pytest.raises(StartError, match=words) as caught:
        load(llama)
    assert caught.value.code == "bad_weights"
