"""int8 weights from the option to logprobs, and checkpoints that are stored so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from inferd import demo
from inferd.engines.base import EngineSpec
from inferd.engines.native import calibration
from inferd.engines.native.calibration import TOKENS, measure, text_ids
from inferd.engines.native.compressed_tensors import Stored
from inferd.engines.native.core import create
from inferd.engines.native.decoder import Decoder, load_decoder
from inferd.engines.native.parameters import Param, Source, read_config, read_headers
from inferd.engines.native.quantization import int8_groups
from inferd.engines.native.sizes import Shape, read_shape
from inferd.engines.native.start import start
from inferd.errors import StartError
from inferd_kernels.linear.int8 import Int8Weight
from inferd_kernels.linear.weight import PackedWeight
from tests.engines.native import compressed, tiny

CPU = torch.device("cpu")
DENSE = ("llama-bias-tied", "qwen3", "gemma2", "phi3")
SPARSE = ("mixtral", "qwen3-moe")


def ignore(*_: object) -> None:
    pass


def load(folder: Path, quantization: str = "auto", **options: Any) -> Decoder:
    given: dict[str, Any] = {"dtype": torch.float32, "device": CPU, "on_progress": ignore}
    return load_decoder(folder, quantization=quantization, **given | options)


def shape_of(folder: Path, quantization: str, *, on_cpu: bool = True, **changes: Any) -> Shape:
    config = read_config(folder) | changes
    headers = read_headers(folder)
    return read_shape(config, headers, dtype="auto", on_cpu=on_cpu, quantization=quantization)


def spec(folder: Path, **changes: Any) -> EngineSpec:
    given: dict[str, Any] = {"model": str(folder), "device": "cpu", "kv_cache_bytes": 1 << 20}
    return EngineSpec(**given | changes)


@torch.inference_mode()
def logprobs(decoder: Decoder, tokens: list[int]) -> torch.Tensor:
    batch = tiny.PagedCache(decoder).batch({0: tokens})
    return decoder.logits(decoder.forward(batch)).log_softmax(-1)


def near(name: str) -> float:
    """Of the spread of logprobs. A change of a bit sends a token to another expert, whose weights
    are random here."""
    return 0.3 if name in SPARSE else 0.1


def matrices(decoder: Decoder) -> Iterator[PackedWeight]:
    """Of the layers, and of their experts."""
    for layer in decoder._layers:
        mlp = layer.mlp
        for weight in (layer.attention.qkv, layer.attention.o, mlp.gate_up, mlp.down):
            for one in weight if isinstance(weight, tuple) else (weight,):
                assert isinstance(one, PackedWeight)
                yield one


# ---------------------------------------------------------------- quantised while loading


@pytest.mark.parametrize("name", DENSE + SPARSE)
def test_every_matrix_but_a_router_is_kept_in_int8(name: str, tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(name, tmp_path)
    decoder = load(folder, "int8")
    shape = shape_of(folder, "int8")
    assert decoder.quantization == shape.quantization == "int8"
    assert decoder.weight_bytes == shape.weight_bytes < 0.55 * load(folder).weight_bytes
    biggest = sorted(decoder.weights, key=lambda tensor: tensor.nbytes)[-4:]
    assert all(tensor.dtype == torch.uint8 for tensor in biggest)


@pytest.mark.parametrize("name", DENSE + SPARSE)
def test_logprobs_stay_near_those_of_floats(name: str, tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(name, tmp_path)
    tokens = list(range(3, 40))
    expected, found = logprobs(load(folder), tokens), logprobs(load(folder, "int8"), tokens)
    assert 0 < (found - expected).abs().median() < near(name) * expected.std()


def test_the_demo_model_in_int8(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="inferd.quantization"):
        core = create(spec(demo.path(), quantization="int8", kv_cache_bytes=1 << 24), ignore)
    info = core.info
    assert info.quantization == "int8"
    loss = info.quantization_loss
    assert loss is not None
    assert loss.tokens == TOKENS
    assert 0 < loss.mean < 0.08
    assert loss.mean < loss.most < 1.0
    assert loss.agreement > 0.93
    assert f"by {loss.mean:.4f} (mean)" in caplog.text
    assert info.weight_bytes == shape_of(demo.path(), "int8").weight_bytes


def test_a_decoder_of_floats_loses_nothing_by_the_same_measure() -> None:
    loss = measure(load(demo.path()), demo.path())
    assert loss.most < 1e-4
    assert loss.agreement == 1.0


@pytest.mark.parametrize("name", ["gemma2", "qwen3-moe", "granite"])
def test_the_truth_is_the_decoder_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a tokenizer, with caps, scales and experts; the head in parts."""
    monkeypatch.setattr(calibration, "HEAD_ROWS", 29)
    folder = tiny.write_checkpoint(name, tmp_path)
    assert measure(load(folder), folder).most < 1e-3


def test_a_check_that_is_not_wanted() -> None:
    model, _ = start(spec(demo.path(), quantization="int8", quantization_check=False), ignore)
    assert model.quantization == "int8"
    assert model.quantization_loss is None


def test_tokens_of_chance_where_there_is_no_tokenizer(tmp_path: Path) -> None:
    ids = text_ids(tmp_path, 50)
    assert ids == text_ids(tmp_path, 50)
    assert len(ids) == TOKENS
    assert 0 <= min(ids) <= max(ids) < 50
    assert ids != text_ids(demo.path(), 4096)[:TOKENS]


@torch.inference_mode()
def test_a_sequence_is_the_same_in_any_company(tmp_path: Path) -> None:
    decoder = load(tiny.write_checkpoint("qwen3", tmp_path), "int8", dtype=torch.bfloat16)
    cache, alone = tiny.PagedCache(decoder), tiny.PagedCache(decoder)
    prompts = {i: [7 * i + j for j in range(5 + i)] for i in range(6)}
    together = decoder.logits(decoder.forward(cache.batch(prompts))).clone()
    single = [
        decoder.logits(decoder.forward(alone.batch({i: prompt}))).clone()
        for i, prompt in prompts.items()
    ]
    assert torch.equal(together, torch.cat(single))


# ---------------------------------------------------------------- checkpoints in int8


@pytest.mark.parametrize("name", [*DENSE, *SPARSE])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("group", [None, 4])
def test_a_checkpoints_own_int8(name: str, packed: bool, group: int | None, tmp_path: Path) -> None:
    floats = tiny.write_checkpoint(name, tmp_path / "floats")
    quantised, meant = compressed.write(floats, tmp_path, packed=packed, group=group)
    decoder, truth = load(quantised), load(meant)
    assert decoder.quantization == "int8"
    assert decoder.weight_bytes == shape_of(quantised, "auto").weight_bytes
    for found, expected in zip(matrices(decoder), matrices(truth), strict=True):
        assert isinstance(found, Int8Weight)
        assert torch.equal(found.unpack(), expected.unpack())
    assert not isinstance(decoder._head, Int8Weight)
    tokens = list(range(3, 30))
    with torch.inference_mode():
        theirs = tiny.reference(meant)(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    ours = logprobs(decoder, tokens)
    assert (ours - theirs).abs().median() < near(name) * theirs.std()


@pytest.mark.parametrize(
    ("columns", "group", "kept"),
    [(102, 102, 64), (256, 256, 64), (256, 128, 64), (256, 32, 32), (96, 48, 16)],
)
def test_the_groups_of_a_checkpoint_bound_ours(columns: int, group: int, kept: int) -> None:
    """A scale for a whole row fits into groups of any size."""
    file = Path("model.safetensors")
    stored = Stored("w", file, "s", file, (32, columns), group, packed=False)
    param = Param("0.o", (32, columns), ((Source("w", (32, columns)),),))
    assert int8_groups([param], {"w": stored}, "auto") == {"0.o": kept}


def test_groups_that_the_kernels_do_not_take_are_refused() -> None:
    file = Path("model.safetensors")
    stored = Stored("w", file, "s", file, (32, 102), 34, packed=False)
    param = Param("0.o", (32, 102), ((Source("w", (32, 102)),),))
    with pytest.raises(StartError, match=r"0\.o: groups of 2 int8 weights"):
        int8_groups([param], {"w": stored}, "auto")


def test_what_a_checkpoint_left_in_floats_becomes_int8_where_asked(tmp_path: Path) -> None:
    floats = tiny.write_checkpoint("qwen3", tmp_path / "floats")
    quantised, _ = compressed.write(floats, tmp_path, packed=True, group=None)
    decoder = load(quantised, "int8")
    assert isinstance(decoder._head, Int8Weight)
    assert decoder.weight_bytes == shape_of(quantised, "int8").weight_bytes
    named = load(quantised, "compressed-tensors")
    assert named.weight_bytes == shape_of(quantised, "auto").weight_bytes


def test_the_loss_of_a_checkpoint_in_int8_is_that_of_its_activations(tmp_path: Path) -> None:
    floats = tiny.write_checkpoint("llama", tmp_path / "floats")
    quantised, meant = compressed.write(floats, tmp_path, packed=False, group=None)
    decoder = load(quantised)
    found, expected = measure(decoder, quantised), measure(decoder, meant)
    assert found.mean == pytest.approx(expected.mean, rel=1e-3)


# ---------------------------------------------------------------- refusals


def _with(**changes: Any) -> Callable[[], dict[str, Any]]:
    weights = compressed.CHANNEL | changes.pop("weights", {})
    inputs = changes.pop("inputs", dict(compressed.TOKEN))
    form = changes.pop("form", "int-quantized")
    return lambda: compressed.section(form, weights, inputs, **changes)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: {"quant_method": "awq", "bits": 4}, "quantized with awq"),
        (lambda: {"quant_method": "fp8"}, "quantized with fp8"),
        (_with(form="marlin-24"), "the format marlin-24"),
        (_with(form="float-quantized"), "the format float-quantized"),
        (_with(weights={"num_bits": 4}), "weights in int4"),
        (_with(weights={"type": "float"}), "weights in float8"),
        (_with(weights={"symmetric": False}), "asymmetric weights"),
        (_with(weights={"strategy": "block"}), "weights by block"),
        (_with(weights={"actorder": "group"}), "in the order of activations"),
        (_with(weights={"dynamic": True}), "dynamic weights"),
        (_with(inputs=compressed.TOKEN | {"dynamic": False}), "static activations"),
        (_with(inputs=compressed.TOKEN | {"symmetric": False}), "asymmetric activations"),
        (_with(inputs=compressed.TOKEN | {"num_bits": 4}), "activations in int4"),
        (_with(kv_cache_scheme={"num_bits": 8}), "a quantised KV cache"),
        (_with(transform_config={"config_groups": {"u": {}}}), "transformed weights"),
        (_with(sparsity_config={"format": "sparse-bitmask"}), "sparse weights"),
        (_with(config_groups={"W4A16": ["Linear"]}), "the scheme W4A16"),
        (_with(config_groups=None), "config_groups, which must be an object"),
        (lambda: "int8", "quantization_config, which must be an object"),
    ],
)
def test_schemes_that_are_refused_by_name(
    make: Callable[[], Any], named: str, tmp_path: Path
) -> None:
    folder = tiny.write_checkpoint("llama", tmp_path)
    tiny.edit_config(folder, quantization_config=make())
    for found in (lambda: shape_of(folder, "auto"), lambda: start(spec(folder), ignore)):
        with pytest.raises(StartError) as refused:
            found()
        assert refused.value.code == "unsupported"
        assert named in refused.value.message


def test_a_scheme_by_its_name_alone_and_under_the_first_key(tmp_path: Path) -> None:
    floats = tiny.write_checkpoint("qwen3", tmp_path / "floats")
    quantised, _ = compressed.write(floats, tmp_path, packed=True, group=None)
    scheme = _with(form="pack-quantized", config_groups={"W8A16": ["Linear"]})()
    tiny.edit_config(quantised, quantization_config=..., compression_config=scheme)
    assert shape_of(quantised, "auto").quantization == "int8"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("model.layers.0.mlp.down_proj.weight"), "down_proj.weight is not"),
        (
            lambda t: t.update({"model.layers.0.mlp.down_proj.weight_scale": torch.ones(59, 1)}),
            "does not fit 60 × 88",
        ),
        (
            lambda t: t.update({"model.layers.0.mlp.down_proj.weight_scale": torch.ones(60, 7)}),
            "does not fit 60 × 88",
        ),
        (
            lambda t: t.update({"model.layers.0.mlp.down_proj.weight_scale": torch.ones(60, 0)}),
            "does not fit 60 × 88",
        ),
        (
            lambda t: t["model.layers.0.mlp.down_proj.weight_scale"].fill_(torch.nan),
            "down_proj.weight_scale has scales that are no finite numbers",
        ),
        (
            lambda t: t.update({"model.layers.0.mlp.down_proj.weight": torch.ones(60, 88)}),
            "stored as F32 instead of I8",
        ),
        (
            lambda t: t.update(
                {"model.layers.0.mlp.down_proj.weight_packed": torch.ones(60, 22).int()}
            ),
            "down_proj.weight and model.layers.0.mlp.down_proj.weight_packed are both there",
        ),
        (
            lambda t: t.update(
                {"model.layers.0.mlp.down_proj.weight_zero_point": torch.eye(60, 1).char()}
            ),
            "down_proj.weight_zero_point is not zero",
        ),
        (lambda t: t.pop("model.layers.1.mlp.down_proj.weight_scale"), "stored as I8"),
    ],
)
def test_damaged_checkpoints(
    change: Callable[[dict[str, torch.Tensor]], object], named: str, tmp_path: Path
) -> None:
    floats = tiny.write_checkpoint("llama", tmp_path / "floats")
    quantised, _ = compressed.write(floats, tmp_path, packed=False, group=None)
    tensors = load_file(quantised / "model.safetensors")
    change(tensors)
    save_file(tensors, quantised / "model.safetensors")
    with pytest.raises(StartError) as refused:
        load(quantised)
    assert named in refused.value.message


@pytest.mark.parametrize(
    ("quantization", "on_cpu", "changes", "code", "named"),
    [
        ("int8", False, {}, "unsupported", "int8 weights run on CPUs so far"),
        ("compressed-tensors", True, {}, "bad_option", "not in that form"),
        ("fp8", True, {}, "bad_option", "'fp8' is not one of auto, int8"),
        ("int8", True, {"attention_multiplier": 2}, "unsupported", "need the native decoder"),
    ],
)
def test_where_int8_cannot_be_had(
    quantization: str,
    on_cpu: bool,
    changes: dict[str, Any],
    code: str,
    named: str,
    tmp_path: Path,
) -> None:
    folder = tiny.write_checkpoint("llama", tmp_path)
    with pytest.raises(StartError) as refused:
        shape_of(folder, quantization, on_cpu=on_cpu, **changes)
    assert refused.value.code == code
    assert named in refused.value.message


def test_a_machine_without_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.write_checkpoint("llama", tmp_path)
    monkeypatch.setattr("inferd.engines.native.sizes.available", lambda: False)
    with pytest.raises(StartError, match="need the compiled kernels") as refused:
        shape_of(folder, "int8")
    assert "C++ compiler" in refused.value.hint
