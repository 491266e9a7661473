"""The scheduler's bounds and policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

PolicyName = Literal["fcfs", "priority", "fair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """All that a `Scheduler` needs to know. Raises ValueError that names the field."""

    max_batch_size: int  # running sequences; rows are in [0, max_batch_size)
    max_batch_tokens: int  # tokens per step; at least max_batch_size
    num_blocks: int  # KV blocks in the pool
    block_size: int  # tokens per KV block
    max_model_len: int  # tokens, prompt and output together
    policy: PolicyName = "fcfs"
    max_queue_requests: int = 1024  # waiting requests, besides those for which a row is free
    max_queue_tokens: int = 4_000_000  # tokens of all waiting requests
    prefix_cache: bool = True
    max_adapters: int = 0  # adapter slots on the device, that is, adapters in one step
    adapter_turn: int = 50  # steps for which a loaded slot takes newcomers, whoever waits

    def __post_init__(self) -> None:
        for name in (
            "max_batch_size",
            "max_batch_tokens",
            "num_blocks",
            "block_size",
            "max_queue_requests",
            "max_queue_tokens",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("max_adapters", "adapter_turn"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.max_model_len < 2:  # one token of prompt, one of output
            raise ValueError(f"max_model_len must be at least 2, not {self.max_model_len}")
        if self.max_batch_tokens < self.max_batch_size:
            raise ValueError(
                f"max_batch_tokens ({self.max_batch_tokens}) must be at least max_batch_size "
                f"({self.max_batch_size}): every running sequence gets a token in every step"
            )
        if self.policy not in get_args(PolicyName):
            raise ValueError(f"policy must be one of {get_args(PolicyName)}, not {self.policy!r}")

    @property
    def pool_tokens(self) -> int:
        """Tokens whose KV the whole pool can hold."""
        return self.num_blocks * self.block_size
