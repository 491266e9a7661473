"""Decode steps, recorded once per padded size and launched in one call from then on."""

from __future__ import annotations

import logging
from collections import Counter
from typing import NamedTuple

import torch

from inferd.engines.native.batching import KVCache
from inferd.engines.native.capturing import Capturable, Capture, Recording
from inferd.engines.native.device_batching import DeviceBatcher
from inferd.engines.native.model import Batch

_log = logging.getLogger("inferd.engines.native")

SMALL_SIZES = (1, 2, 4, 8)
SIZE_STEP = 8  # after 8 rows: of more than 8, at most 7 are padding
SHORTEST_BOUND = 2048
BOUND_FACTOR = 8
"""Contexts are recorded for at most 2048 tokens, for at most 8 times that, … up to the longest
served: kernels that share work out by the bound launch at most so much too much."""
HOT_STEPS = 64
"""Steps without a recording after which one is made though requests run: an engine that is never
idle gets them too, and no request waits for more than one in so many steps."""
MIN_ROOM = 256 << 20
"""Bytes. With less free on the device nothing more is recorded: steps need some."""


class Shape(NamedTuple):
    """What a recording is made for."""

    size: int  # rows, padding included
    bound: int  # tokens of context, at most
    adapters: bool


class StepGraphs:
    """A model's forward pass, replayed for steps in which every sequence has one new token.

    Recordings are made when the engine rests, first of the shapes that steps have had most often;
    until then, and for all other steps, the model runs as it is.

    Args:
        batcher: from now on fills up its steps to the sizes that are recorded.
        max_model_len: no context is longer.
    """

    def __init__(
        self, model: Capturable, batcher: DeviceBatcher, capture: Capture, max_model_len: int
    ) -> None:
        self._model = model
        self._batcher = batcher
        self._capture = capture
        self._sizes = sizes(batcher.max_batch_size)
        self._padded = [
            next(size for size in self._sizes if size >= count)
            for count in range(batcher.max_batch_size + 1)
        ]
        self._bounds = bounds(max_model_len)
        self._recordings: dict[Shape, Recording] = {}
        self._failed: set[Shape] = set()
        self._asked: Counter[Shape] = Counter()
        self._eager = 0  # steps since the last recording was made
        self._full = False
        self._cache: KVCache = ()  # what the recordings hold by address, as is `_places`
        self._places: tuple[int, ...] = ()
        model.reserve(max_model_len)
        batcher.padded = self.padded

    def __len__(self) -> int:
        return len(self._recordings)

    def padded(self, count: int) -> int:
        """The least size of at least `count` rows."""
        return self._padded[count]

    def run(self, batch: Batch) -> torch.Tensor:
        """`Model.forward` of the batch that was built last."""
        if batch.max_seqlen_q > 1:
            return self._model.forward(batch)
        count = len(batch.seq_lens)
        recording = self._recording(self._shape(batch))
        if recording is None:
            return self._model.forward(batch)
        recording.replay()
        return recording.output[:count]

    @torch.inference_mode()  # as steps have it: they may have made tensors that this writes to
    def rest(self) -> bool:
        """Make one recording while nothing runs. Returns whether there are more to make."""
        if not self._batcher.kv_cache:
            return False
        shape = self._next()
        if shape is not None:
            self._batcher.build_idle(shape.size)
            self._record(shape)
        return self._next() is not None

    def clear(self) -> None:
        """Something moves that recordings hold by address: make them anew."""
        self._recordings.clear()
        self._failed.clear()
        self._cache, self._places, self._full = (), (), False
        self._capture.clear()

    def _shape(self, batch: Batch) -> Shape:
        bound = next(bound for bound in self._bounds if bound >= batch.max_seqlen_k)
        return Shape(self.padded(len(batch.seq_lens)), bound, batch.segments is not None)

    def _recording(self, shape: Shape) -> Recording | None:
        """One that serves a step of this shape."""
        found = self._recordings.get(shape)
        if found is None:
            self._asked[shape] += 1
            found = self._larger(shape)
        if found is None:
            self._eager += 1
            if self._eager >= HOT_STEPS and self._wanted(shape):
                self._record(shape)  # over the step itself, which it changes nothing about
                found = self._recordings.get(shape)
        if found is not None:
            self._check_places()
        return found

    def _larger(self, shape: Shape) -> Recording | None:
        """One for longer contexts."""
        larger = (shape._replace(bound=bound) for bound in self._bounds if bound > shape.bound)
        return next(filter(None, map(self._recordings.get, larger)), None)

    def _wanted(self, shape: Shape) -> bool:
        return not (self._full or shape in self._recordings or shape in self._failed)

    def _next(self) -> Shape | None:
        """What steps had most often, then other sizes of the kinds that they had."""
        others = [
            shape._replace(size=size)
            for shape in dict.fromkeys(shape._replace(size=0) for shape in self._asked)
            for size in self._sizes
        ]
        most = [shape for shape, _ in self._asked.most_common()]
        return next(filter(self._wanted, [*most, *others]), None)

    def _record(self, shape: Shape) -> None:
        """Make the recording, over whatever the static tensors hold; if that fails, never again."""
        if self._capture.room() < MIN_ROOM:
            self._full = True
            _log.warning("no memory for more graphs of steps: %d are there", len(self))
            return
        if not self._recordings:
            self._cache, self._places = self._batcher.kv_cache, self._model.places()
        try:
            self._recordings[shape] = self._capture(lambda: self._forward(shape))
        except Exception as error:  # whatever it is: steps go on without
            self._failed.add(shape)
            _log.warning("steps like %s stay without a graph: %r", shape, error)
        else:
            self._check_places()
        self._eager = 0

    def _forward(self, shape: Shape) -> torch.Tensor:
        rows = self._batcher.rows(shape.size, shape.bound, adapters=shape.adapters)
        return self._model.forward(rows)

    def _check_places(self) -> None:
        assert self._batcher.kv_cache is self._cache, "the cache moved, and graphs were kept"
        assert self._model.places() == self._places, "the model moved, and graphs were kept"


def sizes(max_batch_size: int) -> tuple[int, ...]:
    """Rows that steps are filled up to, ascending."""
    every = (*SMALL_SIZES, *range(2 * SIZE_STEP, max_batch_size, SIZE_STEP))
    return (*(size for size in every if size < max_batch_size), max_batch_size)


def bounds(max_model_len: int) -> tuple[int, ...]:
    """Contexts that are recorded for, in tokens, ascending."""
    found = []
    bound = SHORTEST_BOUND
    while bound < max_model_len:
        found.append(bound)
        bound *= BOUND_FACTOR
    return (*found, max_model_len)
