"""The figures of models with random weights: each drives an engine and tells seconds."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu import engine
from benchmarks.gpu.adapters import write_adapter
from benchmarks.gpu.busy import STEPS, device_seconds
from benchmarks.gpu.model import make
from benchmarks.gpu.report import Report
from benchmarks.gpu.shapes import Config, Sizes
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder
from inferd.messages import AdapterInfo, LoadAdapter

MARGIN = 16  # tokens of room that nobody needs


def model_of(config: Config, sizes: Sizes, device: torch.device) -> Decoder:
    length = max(sizes.prefill, sizes.context + sizes.output) + MARGIN
    return make(config, device, max_model_len=length, max_batch_tokens=sizes.prefill)


def decoding(report: Report, model: Decoder, sizes: Sizes, *, eager: bool = False) -> None:
    """One sequence, and a batch: seconds per step, tokens per second."""
    core = _core(model, sizes, sizes.batch, eager=eager)
    for name, batch in (("decode_1", 1), ("decode_batch", sizes.batch)):
        with report.attempt(name):
            report.figure(name, _decoded(core, model, sizes, batch))
    core.close()
    del core
    _free()


def prefill(report: Report, model: Decoder, sizes: Sizes) -> None:
    """One long prompt in one step, to its first token; the median of several."""
    with report.attempt("prefill"):
        length = sizes.prefill + MARGIN
        core = engine.make(model, batch=1, length=length, max_batch_tokens=sizes.prefill)
        taken = [
            engine.run(core, engine.random_tokens(model.vocab_size, 1, sizes.prefill), 1).seconds
            for _ in range(sizes.repeats + 1)
        ]
        core.close()
        report.figure("prefill", {"seconds": median(taken[1:]), "tokens": sizes.prefill})
    _free()


def adapters(report: Report, model: Decoder, sizes: Sizes) -> None:
    """The batch again, whose sequences take turns at adapters of all projections."""
    with report.attempt("adapters"), tempfile.TemporaryDirectory() as folder:
        written = write_adapter(Path(folder), model, sizes.rank)
        core = _core(model, sizes, sizes.batch, adapters=sizes.adapters)
        names = [f"adapter{n}" for n in range(sizes.adapters)]
        _load(core, names, written)
        report.figure("adapters", _decoded(core, model, sizes, sizes.batch, names))
        core.close()
        del core
    _free()


def host_share(report: Report, model: Decoder, sizes: Sizes) -> None:
    """A small model in a large batch: how much of a step the device has nothing to do, over the
    same steps with the device's record and, for their time, without it."""
    sizes = replace(sizes, context=sizes.crowd_context)
    with report.attempt("host"):
        core = _core(model, sizes, sizes.crowd)
        done = engine.decode(core, model, sizes, sizes.crowd)
        seconds, steps = done.decoding(sizes.crowd, STEPS)
        step_s, device_s = seconds / steps, device_seconds(core, model, sizes)
        found = {"batch": sizes.crowd, "context": sizes.context, "step_s": step_s}
        found |= {"device_s": device_s, "host_share": max(0.0, 1 - device_s / step_s)}
        report.figure("host", found)
        core.close()
        del core
    _free()


def _core(
    model: Decoder, sizes: Sizes, batch: int, *, adapters: int = 0, eager: bool = False
) -> NativeCore:
    return engine.make(
        model,
        batch=batch,
        length=sizes.context + sizes.output + MARGIN,
        max_batch_tokens=max(sizes.prefill, batch),
        adapters=adapters,
        rank=sizes.rank,
        eager=eager,
    )


def _decoded(
    core: NativeCore, model: Decoder, sizes: Sizes, batch: int, adapters: Sequence[str] = ("",)
) -> dict[str, Any]:
    done = engine.decode(core, model, sizes, batch, adapters)
    seconds, steps = done.decoding(batch)
    return {
        "batch": batch,
        "context": sizes.context + sizes.output / 2,
        "steps": steps,
        "step_s": seconds / steps,
        "tokens_per_s": batch * steps / seconds,
        "served_tokens_per_s": done.tokens / done.seconds,  # prompts computed in that time too
    }


def _load(core: NativeCore, names: Sequence[str], folder: Path) -> None:
    """One folder under all names: each has a slot and memory of its own."""
    for name in names:
        core.load_adapter(LoadAdapter(name, str(folder)))
    while core.busy:
        core.step()
    news = core.adapter_news()
    if wrong := [each for each in news if not isinstance(each, AdapterInfo)]:
        raise RuntimeError(f"adapters were refused: {wrong[0]}")


def _free() -> None:
    """What an engine had, before the next one asks."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
