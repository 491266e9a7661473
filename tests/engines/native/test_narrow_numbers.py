"""In bfloat16 the decoder is no further from the float32 truth than transformers' own bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.verify_numbers import narrow


@pytest.mark.parametrize("case", narrow.CASES)
def test_bfloat16_is_as_near_as_transformers(case: str, tmp_path: Path) -> None:
    found = narrow.distances(case, tmp_path)
    assert found.good, found
