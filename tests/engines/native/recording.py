"""A `Capture` for a CPU: it writes down torch's operations and the launches of Triton's
interpreter, and runs them again on the same tensors.

A replay begins with all that was computed before spoilt, so it can depend on nothing but what lay
there before the recording. What would wait for a GPU, or copy from the host, cannot be recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from triton.runtime import interpreter

from inferd.engines.native.capturing import Recording

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense.default,
    aten.lift_fresh.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
}
"""What a GPU would be waited for: a number read, a list made a tensor, a size that depends on
values."""
ALLOCATES = {
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}


class RecordingCapture:
    """Counts its recordings; `broken` makes the next ones fail."""

    def __init__(self) -> None:
        self.made = 0
        self.cleared = 0
        self.replays = 0
        self.broken = False
        self.free = 1 << 40

    def __call__(self, run: Callable[[], torch.Tensor]) -> Recording:
        if self.broken:
            raise RuntimeError("a capture that fails")
        with torch.inference_mode():
            run()
            recorder = _Recorder()
            with _launches(recorder), _readings(REFUSED), recorder:
                output = run()
        self.made += 1

        def replay() -> None:
            self.replays += 1
            recorder.replay()

        return Recording(output, replay)

    def room(self) -> int:
        return self.free

    def clear(self) -> None:
        self.cleared += 1


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every call with its arguments, and the tensors that it made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Callable[..., Any], Any, Any, Any]] = []
        self.made: list[torch.Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        masks = func is aten.index.Tensor and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        )
        if func in WAITS or masks:
            raise RuntimeError(f"{func} waits for the device")
        out = func(*args, **kwargs)
        known = {_memory(each) for each in _tensors((args, kwargs))}
        fresh = [each for each in _tensors(out) if _memory(each) not in known]
        self.made += fresh
        if func not in ALLOCATES:
            self.calls.append((func, args, kwargs, out if fresh else None))
        return out

    def replay(self) -> None:
        with torch.inference_mode():
            for tensor in self.made:
                tensor.fill_(torch.nan if tensor.is_floating_point() else 1)
            for func, args, kwargs, before in self.calls:
                now = func(*args, **kwargs)
                if before is not None:
                    for old, new in zip(_tensors(before), _tensors(now), strict=True):
                        old.copy_(new)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def _launches(recorder: _Recorder) -> Iterator[None]:
    """Have the interpreter's launches written down, and what they do inside left out."""
    launch = interpreter.GridExecutor.__call__

    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        recorder.calls.append((launch, (self, *args), kwargs, None))
        with _disable_current_modes(), _readings(READ):
            launch(self, *args, **kwargs)

    interpreter.GridExecutor.__call__ = noted
    try:
        yield
    finally:
        interpreter.GridExecutor.__call__ = launch


@contextmanager
def _readings(ways: Mapping[str, Any]) -> Iterator[None]:
    """Numbers are read from tensors in these ways, which no dispatch mode sees."""
    before = {name: getattr(torch.Tensor, name) for name in ways}
    for name, way in ways.items():
        setattr(torch.Tensor, name, way)
    try:
        yield
    finally:
        for name, way in before.items():
            setattr(torch.Tensor, name, way)


def _waits(*_: Any, **__: Any) -> None:
    raise RuntimeError("reading a tensor waits for the device")


READ = {
    name: getattr(torch.Tensor, name)
    for name in ("tolist", "numpy", "item", "__bool__", "__int__", "__float__")
}
REFUSED = dict.fromkeys(READ, _waits)
