"""What deterministic mode promises, and attempts to break it on the CPU's compiled kernels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.models.shapes import SMALL
from benchmarks.models.write import checkpoint
from benchmarks.verify_numbers.drive import Transcript, drive
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder, load_decoder
from inferd.engines.native.grammars import Grammars
from inferd.engines.native.vocabulary import Vocabulary
from inferd.messages import AdapterInfo, LoadAdapter, Sampling, Submit
from tests.engines.native import tiny
from tests.engines.native.adapters import made
from tests.engines.native.same_bits import alone, bits, differing, make, renamed, requests, threads
from tests.engines.native.spelling import END, lark_of, tokenizer_json

pytestmark = pytest.mark.skipif(
    os.environ.get("INFERD_CPU_KERNELS") == "0", reason="the kernels are turned off"
)
CPU = torch.device("cpu")
LIMIT = 96  # tokens
WATCHED = 12  # requests whose bits are compared; what else there is keeps them company
FORMS = {
    "float32": (torch.float32, "auto"),
    "bfloat16": (torch.bfloat16, "auto"),
    "float16": (torch.float16, "auto"),
    "int8": (torch.bfloat16, "int8"),
}
SUBJECTS = (
    *(("llama", form) for form in FORMS),
    ("mistral", "bfloat16"),  # a sliding window
    ("gemma2", "float32"),  # soft caps, windows
    ("gemma2", "bfloat16"),
    ("phi3-longrope", "float32"),
    ("mixtral", "bfloat16"),
    ("qwen3-moe", "int8"),
)


@dataclass(frozen=True)
class Subject:
    """A model, requests to it, and what the first of them say when each is alone."""

    model: Decoder
    asked: list[Submit]
    expected: Mapping[str, Transcript]

    @property
    def watched(self) -> list[Submit]:
        return self.asked[:WATCHED]

    def core(self, **changes: Any) -> NativeCore:
        return make(self.model, LIMIT, **changes)


def load(folder: Path, form: str, limit: int) -> Decoder:
    dtype, quantization = FORMS[form]
    return load_decoder(
        folder,
        dtype=dtype,
        device=CPU,
        max_model_len=limit,
        max_batch_tokens=64,
        quantization=quantization,
        on_progress=lambda done, total: None,
    )


@pytest.fixture(scope="module", params=SUBJECTS, ids="-".join)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    case, form = request.param
    model = load(tiny.write_checkpoint(case, tmp_path_factory.mktemp(case)), form, LIMIT)
    asked = requests(tiny.VOCAB, LIMIT, 40)
    core = make(model, LIMIT, prefix_cache=False)
    return Subject(model, asked, alone(core, asked[:WATCHED]))


def test_neighbours_change_nothing(subject: Subject) -> None:
    assert differing(drive(subject.core(), subject.asked), subject.expected) == []


@pytest.mark.parametrize("tokens", [3, 7])
def test_chunks_change_nothing(subject: Subject, tokens: int) -> None:
    core = subject.core(max_batch_size=3, max_batch_tokens=tokens)
    assert differing(drive(core, subject.watched), subject.expected) == []


def test_the_prefix_cache_changes_nothing(subject: Subject) -> None:
    core = subject.core()
    drive(core, renamed(requests(tiny.VOCAB, LIMIT, WATCHED, scored=False)))
    got = drive(core, subject.watched)
    assert differing(got, subject.expected) == []
    assert sum(one.cached_tokens > 0 for one in got.values()) > 3


def test_preemption_changes_nothing(subject: Subject) -> None:
    core = subject.core(num_blocks=-(-LIMIT // 4), max_batch_size=6, max_batch_tokens=11)
    got = drive(core, subject.watched)
    assert differing(got, subject.expected) == []
    assert sum(one.finish.preemptions for one in got.values()) > 0


def test_one_step_ahead_changes_nothing(subject: Subject) -> None:
    core = subject.core(ahead=True, max_batch_tokens=64)
    assert differing(drive(core, subject.asked), subject.expected) == []


def test_threads_change_nothing(subject: Subject) -> None:
    with threads(2):
        assert differing(drive(subject.core(), subject.asked), subject.expected) == []
    with threads(3):
        core = subject.core(max_batch_size=5, max_batch_tokens=13)
        assert differing(drive(core, subject.watched), subject.expected) == []


@pytest.mark.parametrize("form", ["bfloat16", "int8"])
def test_long_contexts_and_matrices_of_a_useful_size(form: str, tmp_path: Path) -> None:
    """Sums over more than one chunk of positions, and products over more than one block."""
    limit = 700
    model = load(checkpoint(SMALL, tmp_path / "small"), form, limit)
    asked = requests(SMALL.vocabulary, limit, 12)
    core = make(model, limit, prefix_cache=False)
    expected = alone(core, asked[:4])
    assert differing(drive(make(model, limit), asked), expected) == []
    core = make(model, limit, max_batch_size=5, max_batch_tokens=97)
    with threads(2):
        assert differing(drive(core, asked[:5]), expected) == []


@pytest.mark.parametrize("form", ["float32", "bfloat16"])
def test_neighbours_adapters_change_nothing(form: str, tmp_path: Path) -> None:
    folder = tiny.write_checkpoint("llama", tmp_path / "model")
    written = {
        f"adapter{n}": made.write_adapter(folder, tmp_path / str(n), seed=n, **config)
        for n, config in enumerate(made.EIGHT[1:5])
    }
    asked = requests(tiny.VOCAB, LIMIT, 30)
    turns = (*written, "")
    adapted = [renamed([each], adapter=turns[n % 5])[0] for n, each in enumerate(asked)]
    bare = make(load(folder, form, LIMIT), LIMIT, prefix_cache=False)  # no adapter anywhere
    expected = alone(bare, asked[:5]) | alone(holding(folder, form, written), adapted[:10])
    crowd = holding(folder, form, written)
    assert differing(drive(crowd, asked + adapted), expected) == []
    one_slot = holding(folder, form, written, max_adapters=1)
    assert differing(drive(one_slot, asked[:5] + adapted[:10]), expected) == []


def holding(folder: Path, form: str, adapters: Mapping[str, Path], **changes: Any) -> NativeCore:
    """An engine of its own, with these adapters."""
    core = make(load(folder, form, LIMIT), LIMIT, **{"max_adapters": 4} | changes)
    for name, written in adapters.items():
        core.load_adapter(LoadAdapter(name, str(written)))
    drive(core, ())
    assert all(isinstance(each, AdapterInfo) for each in core.adapter_news())
    return core


def test_grammars_change_nothing(tmp_path: Path) -> None:
    model = load(tiny.write_checkpoint("llama", tmp_path), "bfloat16", LIMIT)
    lark = lark_of({"type": "array", "items": {"type": "integer"}, "maxItems": 9})
    free = requests(tiny.VOCAB, LIMIT, 10)
    held = [
        Submit(
            f"g{n}",
            (1, 2, n),
            30,
            Sampling(temperature=1.0, seed=n, logprobs=2, stop_token_ids=(END,)),
            grammar=lark,
        )
        for n in range(6)
    ]
    expected = alone(under_grammars(model), [*free[:4], *held])
    assert any(one.finish.reason == "stop" for one in expected.values())
    assert differing(drive(under_grammars(model), [*free, *held]), expected) == []
    tight = under_grammars(model, max_batch_size=4, max_batch_tokens=5, num_blocks=24)
    assert differing(drive(tight, [*free[:4], *held]), expected) == []


def under_grammars(model: Decoder, **changes: Any) -> NativeCore:
    vocabulary = Vocabulary(lambda: (tokenizer_json(), {END}), tiny.VOCAB)
    return make(model, LIMIT, grammars=Grammars(vocabulary), **changes)


def test_a_difference_would_be_seen(tmp_path: Path) -> None:
    """The bits compared are those of numbers: a weight's last bit shows."""
    model = load(tiny.write_checkpoint("llama", tmp_path), "float32", LIMIT)
    asked = requests(tiny.VOCAB, LIMIT, 1)
    before = alone(make(model, LIMIT), asked)
    norm = next(each for each in model.weights if each.dim() == 1)
    norm[0] = torch.nextafter(norm[0], torch.tensor(9.0))
    after = alone(make(model, LIMIT), asked)
    assert bits(before["r0"]) != bits(after["r0"])
