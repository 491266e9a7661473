"""The number checks: the engine on this device against transformers on it, and against itself."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace as changed

from benchmarks.gpu import engine
from benchmarks.gpu.report import Report
from benchmarks.verify_numbers import narrow, subjects
from benchmarks.verify_numbers.drive import drive
from benchmarks.verify_numbers.trials import (
    TOLERANCE,
    TRIALS,
    Difference,
    Subject,
    compare_all,
    submits,
)
from inferd.engines.native.deterministic import prefer
from inferd.engines.native.model import Model
from tests.engines.native import tiny
from tests.engines.native.same_bits import alone, differing, make, renamed, requests

FLOAT32 = ("llama", "qwen3", "mistral", "gemma2", "phi3", "mixtral", "qwen3-moe")
ADAPTED = ("llama",)
NARROW = ("llama", "qwen3", "gemma2")
PROMISED = (
    ("llama", "float32"),
    ("llama", "bfloat16"),
    ("mistral", "bfloat16"),
    ("mixtral", "bfloat16"),
)
LIMIT = 96  # tokens, where promises are tried
WATCHED = 8


def compare(report: Report, device: torch.device, *, rehearsal: bool) -> None:
    """Logprobs in float32 within `TOLERANCE`, however the work was cut into steps; in bfloat16 as
    near to float32 as transformers' own."""
    kinds = [(case, subjects.native) for case in FLOAT32[: 1 if rehearsal else None]]
    kinds += [] if rehearsal else [(case, subjects.adapted) for case in ADAPTED]
    trials = {"few": few} if rehearsal else {**TRIALS, "graphs": graphs}
    for case, build in kinds:
        name = f"{case} {build.__name__} float32"
        with report.attempt(name), tempfile.TemporaryDirectory() as folder:
            subject = build(case, Path(folder), device)
            found = {trial: run(subject).worst for trial, run in trials.items()}
            report.figure(name, found)
            if any(isnan(worst) or worst > TOLERANCE for worst in found.values()):
                raise ArithmeticError(f"more than {TOLERANCE:g} from transformers: {found}")
    for case in () if rehearsal else NARROW:
        name = f"{case} bfloat16"
        with report.attempt(name), tempfile.TemporaryDirectory() as folder:
            distances = narrow.distances(case, Path(folder), device)
            report.figure(name, asdict(distances))
            if not distances.good:
                raise ArithmeticError(f"further from float32 than transformers: {distances}")


def graphs(subject: Subject) -> Difference:
    """After an idle gap, in which the steps that these requests take were recorded."""
    asked = submits(subject)
    core = subject.core(prefix_cache=False)
    drive(core, renamed(asked))
    engine.rest(core)
    return compare_all(subject, asked, drive(core, asked))


def few(subject: Subject) -> Difference:
    """A trial for a rehearsal: two short sequences, two tokens each."""
    asked = [changed(one, max_tokens=2, prompt=one.prompt[:5]) for one in submits(subject)[:2]]
    return compare_all(subject, asked, drive(subject.core(), asked))


def promises(report: Report, device: torch.device) -> None:
    """Deterministic mode's, tried on this device."""
    prefer(True, device.type)
    for case, form in PROMISED:
        name = f"{case} {form} deterministic"
        with report.attempt(name), tempfile.TemporaryDirectory() as folder:
            tiny.write_checkpoint(case, Path(folder))
            model = subjects.load(Path(folder), getattr(torch, form), device, LIMIT)
            wrong = broken(model)
            report.figure(name, wrong or "kept")
            if wrong:
                raise ArithmeticError(f"bits differ: {wrong}")
    with report.attempt("adapters deterministic"), tempfile.TemporaryDirectory() as folder:
        changed_by = broken_by_adapters(subjects.adapted("llama", Path(folder), device))
        report.figure("adapters deterministic", changed_by or "kept")
        if changed_by:
            raise ArithmeticError(f"bits differ: {changed_by}")


def broken(model: Model) -> dict[str, list[str]]:
    """What changed the bits of which requests."""
    asked = requests(model.vocab_size, LIMIT, 40)
    watched = asked[:WATCHED]
    expected = alone(make(model, LIMIT, prefix_cache=False), watched)
    before = renamed(requests(model.vocab_size, LIMIT, WATCHED, scored=False))
    small: dict[str, Any] = {
        "num_blocks": -(-LIMIT // 4),
        "max_batch_size": 6,
        "max_batch_tokens": 11,
    }
    cores = {
        "prefix cache": make(model, LIMIT),
        "graphs": make(model, LIMIT, prefix_cache=False),
    }
    for core in cores.values():
        drive(core, before)
    engine.rest(cores["graphs"])
    got = {
        "neighbours": drive(make(model, LIMIT), asked),
        "chunks": drive(make(model, LIMIT, max_batch_size=3, max_batch_tokens=7), watched),
        "preemption": drive(make(model, LIMIT, **small), watched),
        **{name: drive(core, watched) for name, core in cores.items()},
    }
    found = {name: differing(each, expected) for name, each in got.items()}
    return {name: each for name, each in found.items() if each}


def broken_by_adapters(subject: Subject) -> list[str]:
    """Which requests came out otherwise beside those for other adapters."""
    asked = submits(subject)
    expected = alone(subject.core(prefix_cache=False), asked[: len(subject.adapters) + 1])
    return differing(drive(subject.core(), asked), expected)
