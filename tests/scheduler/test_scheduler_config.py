"""The configuration names the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from inferd_scheduler import SchedulerConfig

GOOD: dict[str, Any] = {
    "max_batch_size": 4,
    "max_batch_tokens": 16,
    "num_blocks": 32,
    "block_size": 4,
    "max_model_len": 64,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_batch_size", 0),
        ("max_batch_tokens", 3),
        ("num_blocks", 0),
        ("block_size", -1),
        ("max_model_len", 1),
        ("policy", "lifo"),
        ("max_queue_requests", 0),
        ("max_queue_tokens", 0),
        ("max_adapters", -1),
        ("adapter_turn", -1),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field} "):
        SchedulerConfig(**{**GOOD, field: value})


def test_the_pool_s_size_in_tokens() -> None:
    assert SchedulerConfig(**GOOD).pool_tokens == 128
