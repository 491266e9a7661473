"""What a scheduler can say about itself, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A snapshot. `num_` fields are now, `total_` fields only grow."""

    num_waiting: int  # requests
    num_waiting_tokens: int
    num_running: int  # requests
    num_blocks: int
    num_free_blocks: int  # not held by a sequence; they may still hold a cached prefix
    num_cached_blocks: int  # findable by prefix, held or not
    total_steps: int
    total_tokens: int  # computed positions, prefill and decode, recomputation included
    total_preemptions: int
    total_prefix_queries: int  # tokens of admitted requests that were looked up
    total_prefix_hits: int  # tokens of these whose KV was found
    num_adapters: int  # that are in slots, needed now or not
    total_adapter_loads: int  # into slots
    total_adapter_evictions: int  # from slots, for another adapter
