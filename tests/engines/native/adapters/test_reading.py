"""Folders that do not fit: refused with the tensor's or the file's name, and why."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import asdict
from safetensors.torch import load_file, save_file

from inferd.engines.native.adapters.reading import Adapter, read
from inferd.engines.native.adapters.unfit import Unfit
from inferd.engines.native.decoder import Decoder, load_decoder
from inferd.peft_files import TENSORS
from tests.engines.native import tiny
from tests.engines.native.adapters import made

Tensors = dict[str, torch.Tensor]
LAYER = "base_model.model.model.layers.1.self_attn.q_proj."
A, B = LAYER + "lora_A.weight", LAYER + "lora_B.weight"
HEAD = "base_model.model.lm_head."


@pytest.fixture(scope="module")
def good(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """q_proj, up_proj and lm_head."""
    path = tmp_path_factory.mktemp("good")
    made.write_adapter(folder, path, r=4, target_modules=["q_proj", "up_proj", "lm_head"])
    return path


def try_read(model: Decoder, folder: Path, **options: Any) -> Adapter:
    assert model.adaptable is not None
    settings: dict[str, Any] = {"dtype": model.dtype, "max_rank": 64} | options
    return read("g", folder, base=model.adaptable, **settings)


def edited(good: Path, folder: Path, edit: Callable[[Tensors], object]) -> Path:
    """The good adapter with changed tensors."""
    shutil.copy(good / "adapter_config.json", folder)
    tensors = load_file(good / TENSORS)
    edit(tensors)
    save_file({name: one.contiguous() for name, one in tensors.items()}, folder / TENSORS)
    return folder


def reconfigured(good: Path, folder: Path, **changes: Any) -> Path:
    shutil.copy(good / TENSORS, folder)
    config = json.loads((good / "adapter_config.json").read_text()) | changes
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def refused(model: Decoder, folder: Path, **options: Any) -> Unfit:
    with pytest.raises(Unfit) as caught:
        try_read(model, folder, **options)
    return caught.value


def test_a_good_one_says_what_it_is(model: Decoder, good: Path) -> None:
    adapter = try_read(model, good)
    hidden, inner, vocab = 60, 88, tiny.VOCAB
    size = 4 * 4 * (3 * (hidden + hidden + hidden + inner) + hidden + vocab)
    assert asdict(adapter.info) == {
        "adapter": "g",
        "rank": 4,
        "num_bytes": size,
        "modules": ("lm_head", "q_proj", "up_proj"),
    }
    assert sorted(adapter.factors) == sorted(
        [*(f"{i}.qkv" for i in range(3)), *(f"{i}.gate_up" for i in range(3)), "head"]
    )
    assert all(weights.a.dtype == torch.float32 for weights in adapter.factors.values())


def test_narrow_models_get_narrow_factors(folder: Path, good: Path) -> None:
    narrow = load_decoder(
        folder, dtype=torch.bfloat16, device=torch.device("cpu"), on_progress=lambda d, t: None
    )
    adapter = try_read(narrow, good)
    assert adapter.info.num_bytes == try_read(narrow, good, dtype=torch.float32).info.num_bytes // 2
    assert adapter.factors["head"].parts[0].b.dtype == torch.bfloat16


def wrong(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], object]:
    def edit(tensors: Tensors) -> None:
        tensors[name] = change(tensors[name])

    return edit


def with_value(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor[-1, -1] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("edit", "code", "name", "why"),
    [
        (wrong(A, lambda t: t[:, :-1]), "invalid", A, "[4, 59] instead of [4, 60]"),
        (wrong(A, lambda t: t[:3]), "invalid", A, "[3, 60] instead of [4, 60]"),
        (wrong(A, lambda t: t[:0]), "invalid", A, "[0, 60] instead of [4, 60]"),
        (wrong(B, lambda t: t.T), "invalid", B, "[4, 60] instead of [60, 4]"),
        (wrong(B, lambda t: t[None]), "invalid", B, "[1, 60, 4] instead of"),
        (wrong(A, with_value(torch.nan)), "invalid", A, "not finite"),
        (wrong(B, with_value(torch.inf)), "invalid", B, "not finite"),
        (wrong(B, with_value(-torch.inf)), "invalid", B, "not finite"),
        (wrong(A, lambda t: t.to(torch.int32)), "unsupported", A, "I32"),
        (wrong(A, lambda t: t.to(torch.float8_e4m3fn)), "unsupported", A, "F8_E4M3"),
        (lambda ts: ts.pop(B), "invalid", B, "is missing"),
        (lambda ts: ts.pop(A), "invalid", A, "is missing"),
        (lambda ts: ts.clear(), "invalid", "lora_", "is missing"),
        (
            lambda ts: ts.update(
                {LAYER.replace(".1.", ".7.") + "lora_A.weight": torch.ones(4, 60)}
            ),
            "invalid",
            "layers.7",
            "no layer",
        ),
        (
            lambda ts: ts.update(
                {LAYER.replace("q_proj", "k_proj") + "lora_A.weight": torch.ones(1)}
            ),
            "invalid",
            "k_proj",
            "no layer",
        ),
        (lambda ts: ts.update(surprise=torch.ones(1)), "invalid", "surprise", "no layer"),
        (
            lambda ts: ts.update({LAYER + "lora_magnitude_vector": torch.ones(60)}),
            "unsupported",
            "lora_magnitude_vector",
            "DoRA",
        ),
        (lambda ts: ts.update({LAYER + "lora_B.bias": torch.ones(60)}), "unsupported", "q", "bias"),
        (
            lambda ts: ts.update(
                {LAYER.replace("self_attn", "mlp.experts.0") + "x": torch.ones(1)}
            ),
            "unsupported",
            "experts",
            "experts",
        ),
        (
            wrong(HEAD + "base_layer.weight", lambda t: t + 1e-3),
            "unsupported",
            HEAD,
            "differs from the base's",
        ),
        (
            wrong(HEAD + "base_layer.weight", lambda t: t[:-1]),
            "unsupported",
            HEAD,
            "differs from the base's",
        ),
    ],
)
def test_tensors_that_do_not_fit(
    model: Decoder,
    good: Path,
    tmp_path: Path,
    edit: Callable[[Tensors], object],
    code: str,
    name: str,
    why: str,
) -> None:
    error = refused(model, edited(good, tmp_path, edit))
    assert error.code == code
    assert name in error.message
    assert why in error.message


def test_the_base_weights_that_peft_saves_may_be_there_or_not(
    model: Decoder, good: Path, tmp_path: Path
) -> None:
    assert HEAD + "base_layer.weight" in load_file(good / TENSORS)
    without = edited(good, tmp_path, lambda ts: ts.pop(HEAD + "base_layer.weight"))
    assert try_read(model, without).info == try_read(model, good).info


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"r": 0}, "invalid", "r: is 0"),
        ({"r": 300}, "invalid", "r: is 300"),
        ({"r": 5}, "invalid", "[4, 60] instead of [5, 60]"),
        ({"target_modules": ["nothing"]}, "invalid", "target_modules"),
        ({"target_modules": ["q_proj", "lm_head"]}, "invalid", "up_proj.lora_A.weight"),
        ({"target_modules": ["q_proj", "lm_head", "up_proj", "v_proj"]}, "invalid", "v_proj"),
        ({"use_dora": True}, "unsupported", "DoRA"),
        ({"lora_alpha": 1e41}, "invalid", "too large for float32"),
    ],
)
def test_settings_that_do_not_fit_the_tensors(
    model: Decoder, good: Path, tmp_path: Path, changes: dict[str, Any], code: str, word: str
) -> None:
    error = refused(model, reconfigured(good, tmp_path, **changes))
    assert error.code == code
    assert word in error.message


def test_a_rank_beyond_the_engines(model: Decoder, good: Path) -> None:
    error = refused(model, good, max_rank=3)
    assert error.code == "unsupported"
    assert "rank 4" in error.message
    assert "--max-adapter-rank" in error.message
    assert try_read(model, good, max_rank=4).info.rank == 4


def test_scaled_factors_must_fit_the_models_dtype(
    model: Decoder, good: Path, tmp_path: Path
) -> None:
    error = refused(model, reconfigured(good, tmp_path, lora_alpha=1e7), dtype=torch.float16)
    assert error.code == "invalid"
    assert "too large for float16" in error.message


def test_no_weights_and_pickles_alone(model: Decoder, good: Path, tmp_path: Path) -> None:
    shutil.copy(good / "adapter_config.json", tmp_path)
    assert refused(model, tmp_path).code == "invalid"
    torch.save({}, tmp_path / "adapter_model.bin")
    error = refused(model, tmp_path)
    assert error.code == "unsupported"
    assert "pickle" in error.message
    assert refused(model, tmp_path / "nowhere").code == "invalid"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x02",
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 200_000_000) + b"{" * 1000,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}" + b"more",
        struct.pack("<Q", 9) + b'{"a": 1}\n',
        b"\x80\x04\x95" * 100,
    ],
)
def test_files_that_are_no_safetensors(
    model: Decoder, good: Path, tmp_path: Path, content: bytes
) -> None:
    shutil.copy(good / "adapter_config.json", tmp_path)
    (tmp_path / TENSORS).write_bytes(content)
    error = refused(model, tmp_path)
    assert error.code == "invalid"
    assert TENSORS in error.message


def test_a_huge_header_is_not_even_parsed(model: Decoder, good: Path, tmp_path: Path) -> None:
    shutil.copy(good / "adapter_config.json", tmp_path)
    text = b"{" + b" " * (5 << 20) + b"}"
    (tmp_path / TENSORS).write_bytes(struct.pack("<Q", len(text)) + text)
    assert "header" in refused(model, tmp_path).message


def test_offsets_that_lie(model: Decoder, good: Path, tmp_path: Path) -> None:
    """Two tensors that share bytes, in a file whose length is right."""
    shutil.copy(good / "adapter_config.json", tmp_path)
    raw = (good / TENSORS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    begin, end = header[A]["data_offsets"]
    header[A]["data_offsets"] = [begin - 4, end - 4]
    text = json.dumps(header).encode()
    (tmp_path / TENSORS).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    error = refused(model, tmp_path)
    assert error.code == "invalid"
    assert TENSORS in error.message


@pytest.mark.parametrize(
    ("case", "targets", "word"),
    [
        ("mixtral", ["gate", "q_proj"], "target_parameters"),
        ("mixtral", "all-linear", "experts"),
        ("qwen3-moe", ["q_proj", "o_proj"], ""),
        ("phi3", ["qkv_proj", "gate_up_proj"], ""),
    ],
)
def test_other_architectures(tmp_path: Path, case: str, targets: Any, word: str) -> None:
    """Routers and experts are refused by name; attention beside them is not, nor what is fused."""
    base = tiny.write_checkpoint(case, tmp_path / "base")
    made.write_adapter(base, tmp_path, r=2, target_modules=targets)
    device = torch.device("cpu")
    decoder = load_decoder(base, dtype=None, device=device, on_progress=lambda d, t: None)
    if word:
        error = refused(decoder, tmp_path)
        assert error.code == "unsupported"
        assert word in error.message
    else:
        assert try_read(decoder, tmp_path).info.modules == tuple(sorted(targets))
