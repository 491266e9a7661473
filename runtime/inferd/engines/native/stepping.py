"""How a model's steps reach its device: cache, batches, graphs, and parts where memory lacks."""

from __future__ import annotations

from inferd.engines.native.batching import Batcher, KVCache, StepBatcher, allocate_kv, touch
from inferd.engines.native.capturing import Capturable, Capture, CudaCapture
from inferd.engines.native.device_batching import SCRATCH_BLOCKS, DeviceBatcher
from inferd.engines.native.graphs import StepGraphs
from inferd.engines.native.model import Model
from inferd.engines.native.splitting import Splitting
from inferd_kernels.attention import ATTENTION
from inferd_scheduler import SchedulerConfig


class Stepping:
    """What is between a scheduler's step and the model's forward pass; owns the KV cache.

    Args:
        on_device: whether batches are made there, as they always are but on a CPU.
        capture: makes graphs of decode steps, where the model can be captured; None: none are
            made.

    Raises: RuntimeError: torch's, where the cache cannot be allocated.
    """

    def __init__(
        self, model: Model, config: SchedulerConfig, *, on_device: bool, capture: Capture | None
    ) -> None:
        on_device = on_device or model.device.type != "cpu"
        self._model = model
        self._config = config
        self._num_blocks = config.num_blocks + (SCRATCH_BLOCKS if on_device else 0)
        batcher = (DeviceBatcher if on_device else Batcher)(
            self._allocate(),
            config.block_size,
            config.max_batch_size,
            -(-config.max_model_len // config.block_size),
            config.max_batch_tokens,
        )
        self.batcher: StepBatcher = batcher
        self._graphs: StepGraphs | None = None
        if capture and isinstance(batcher, DeviceBatcher) and isinstance(model, Capturable):
            self._graphs = StepGraphs(model, batcher, capture, config.max_model_len)
        whole = model.forward if self._graphs is None else self._graphs.run
        self.forward = Splitting(whole, model.forward)

    @property
    def asleep(self) -> bool:
        return not self.batcher.kv_cache

    def rest(self) -> bool:
        """See `Core.rest`."""
        return self._graphs is not None and self._graphs.rest()

    def sleep(self) -> None:
        """Give back the cache, and what holds it and the weights by address."""
        if self._graphs is not None:
            self._graphs.clear()
        self.batcher.kv_cache = ()

    def wake(self) -> None:
        """Raises RuntimeError, torch's."""
        self.batcher.kv_cache = self._allocate()

    def _allocate(self) -> KVCache:
        model, config = self._model, self._config
        kv_cache = allocate_kv(
            model.kv_specs, self._num_blocks, config.block_size, model.dtype, model.device
        )
        touch(kv_cache)
        return kv_cache


def capture_for(model: Model, *, enforce_eager: bool) -> Capture | None:
    """CUDA's on a GPU, unless steps shall run as they are, or there are none of its kernels:
    attention in plain torch would read as much as the longest context has."""
    kind = model.device.type
    if enforce_eager or kind != "cuda" or ATTENTION.choice(kind) == "reference":
        return None
    return CudaCapture(model.device)
