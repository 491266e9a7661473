"""README's table: drawn from results, and up to date."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from benchmarks.record import RESULTS
from benchmarks.table.draw import table
from benchmarks.table.gpu import gpu_table
from benchmarks.table.readme import BEGIN, END, GPU_BEGIN, GPU_END, NoPlace, between, replaced

README = RESULTS.parents[1] / "README.md"
ABOUT = {"versions": {"llama-cpp-python": "0.3.36"}, "start_s": 1.25, "memory_bytes": 1_500_000_000}
RATES = {"decode_1": 35.0, "decode_8": 123.4, "prefill_1x512": 450.0}
FIGURES: dict[str, Any] = {
    "commit": "abc",
    "date": "2026-01-02T03:04:05+00:00",
    "quiet": True,
    "machine": {"cpu": "A Chip", "cores": 2},
    "rounds": [{"group": 0}, {"group": 0}, {"group": 1}],
    "medians": {"ours": RATES, "llama": RATES},
    "variants": {
        "ours": ABOUT | {"label": "inferd bf16"},
        "llama": ABOUT | {"label": "llama.cpp bf16", "memory_bytes": None},
    },
    "ratios": {"ours": {"best peer": {"decode_1": 1.0, "decode_8": 2.5}}},
    "ceilings": {
        "read_bytes_per_s": 45e9,
        "sgemm_flops_per_s": 190e9,
        "bf16_flops_per_s": 600e9,
    },
    "shares": {
        "ours": {
            "decode_1": {"read": 0.9},
            "prefill_1x512": {"sgemm": 1.5, "bf16": 0.5},
            "prefill_8x128": {"sgemm": 1.25, "bf16": 0.4},
        }
    },
}


def test_a_row_for_each_engine_that_was_measured() -> None:
    lines = table(FIGURES).splitlines()
    assert "| **inferd, bf16 weights** | 35.0 | 123 | – | 450 | – | 1.5 GB | 1.2 s |" in lines
    peer = "| llama.cpp bf16 (llama-cpp-python 0.3.36) | 35.0 | 123 | – | 450 | – | – | 1.2 s |"
    assert peer in lines
    assert "| *to the best peer* | *1.00 ×* | *2.50 ×* | *–* | *–* | *–* |  |  |" in lines
    assert "vLLM" not in table(FIGURES)
    assert "int8" not in table(FIGURES)


def test_limits_are_said_beside_the_figures() -> None:
    last = table(FIGURES).splitlines()[-1]
    assert "45.0 GB/s" in last
    assert "at 90% of the rate" in last
    assert "150% and 125% of float32's rate, 50% and 40% of bfloat16's" in last


def test_all_rows_have_as_many_cells() -> None:
    rows = [line for line in table(FIGURES).splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1


def test_the_caption_says_when_the_machine_was_not_quiet() -> None:
    assert "not quiet" not in table(FIGURES)
    assert "not quiet" in table(FIGURES | {"quiet": False})
    assert "Medians of 1 to 2 rounds" in table(FIGURES)


def test_a_table_is_replaced_and_nothing_else() -> None:
    readme = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replaced(readme, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_a_readme_without_one_gets_a_section() -> None:
    once = replaced("# inferd\n\n## More\n\nlinks\n", "new")
    assert once.index(BEGIN) < once.index("## More")
    assert replaced(once, "new") == once


@pytest.mark.parametrize("readme", ["nothing", f"{BEGIN}\n## More\n", f"{END}\n{BEGIN}"])
def test_half_a_place_is_none(readme: str) -> None:
    with pytest.raises(NoPlace):
        replaced(readme, "new")


def test_the_readme_says_what_the_results_say() -> None:
    if not (RESULTS / "peers.json").exists():
        assert BEGIN not in README.read_text()
        return
    command = [sys.executable, "-m", "benchmarks.table", "--check"]
    done = subprocess.run(command, cwd=README.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_gpu_that_was_not_there_is_said() -> None:
    text = gpu_table(None)
    assert text.startswith("**Not measured yet:**")
    assert "| 8B, decode, 1 sequence | 15.15 GB a step | 284 tokens/s |" in text
    table_rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in table_rows}) == 1


def test_a_gpus_figures_are_drawn() -> None:
    row = {"name": "decode", "counted": "1 GB", "limit": "9", "target": "≥ 85 % of the limit"}
    record = {
        "commit": "abc",
        "date": "2026-01-02T03:04:05+00:00",
        "gpu": {"name": "A GPU", "cuda": "13.0"},
        "versions": {"torch": "2.11", "triton": "3.6"},
        "ceilings": {"bytes_per_s": 4.2e12, "flop_per_s": 790e12},
        "targets": [row | {"measured": "8 tokens/s", "share": 0.89, "met": True}],
        "notes": ["graphs help"],
        "failures": {"numbers": {"llama": "ArithmeticError: far\nmore"}},
    }
    text = gpu_table(record)
    assert "one A GPU (CUDA 13.0, torch 2.11, Triton 3.6); commit abc, 2026-01-02" in text
    assert "copied 4.20 TB/s" in text
    assert "| decode | 1 GB | 9 | ≥ 85 % of the limit | 8 tokens/s (89%) | met |" in text
    assert "\n\n- graphs help\n- numbers" in text
    assert text.endswith("- numbers, llama: failed: ArithmeticError: far")


def test_the_gpus_table_has_a_place_of_its_own() -> None:
    readme = f"{BEGIN}\none\n{END}\n{GPU_BEGIN}\nold\n{GPU_END}\n"
    after = between(readme, "new", GPU_BEGIN, GPU_END)
    assert after == f"{BEGIN}\none\n{END}\n{GPU_BEGIN}\nnew\n{GPU_END}\n"
