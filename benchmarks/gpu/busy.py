"""How long the device works in a step, by its own record of kernels and copies."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch._C._autograd import DeviceType

from benchmarks.gpu import engine
from benchmarks.gpu.shapes import Sizes
from inferd.engines.native.core import NativeCore
from inferd.engines.native.decoder import Decoder
from inferd.messages import Sampling, Submit, Tokens

STEPS = 16  # that are recorded


def device_seconds(core: NativeCore, model: Decoder, sizes: Sizes) -> float:
    """Of a decoding step of `crowd` sequences. The record slows the host, not the kernels. Raises
    RuntimeError where there is none."""
    for n, text in enumerate(engine.random_tokens(model.vocab_size, sizes.crowd, sizes.context)):
        sampling = Sampling(temperature=0.0)
        core.submit(Submit(f"busy{n}", text, sizes.output, sampling))
    full = 0
    while full < min(engine.SKIPPED, sizes.output - 1):
        full += _tokens(core) == sizes.crowd
    steps = 0
    on_gpu = model.device.type == "cuda"
    activity = (
        torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
    )
    with torch.profiler.profile(activities=[activity]) as record:
        while steps < STEPS and core.busy:
            _tokens(core)
            steps += 1
        if on_gpu:
            torch.cuda.synchronize()
    while core.busy:
        core.step()
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in record.events() or ()
        if not on_gpu or event.device_type == DeviceType.CUDA
    ]
    if not spans:
        raise RuntimeError("the device's work was not recorded")
    return covered(spans) / 1e6 / steps


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _tokens(core: NativeCore) -> int:
    return sum(len(event.token_ids) for event in core.step() if isinstance(event, Tokens))
