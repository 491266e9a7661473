"""Which level of instructions a processor gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferd_kernels.cpu.isa import LEVELS, choose, supported

AVX2 = "fpu sse2 avx avx2 fma f16c bmi2"
AVX512 = f"{AVX2} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("flags", "machine", "names"),
    [
        (f"{AVX512} avx512_vnni avx512_bf16", "x86_64", [*"abcd"]),
        (f"{AVX512} avx512_vnni", "x86_64", [*"bcd"]),
        (AVX512, "x86_64", [*"cd"]),
        (f"{AVX2} avx512f avx512_vnni avx512_bf16", "x86_64", ["d"]),
        (AVX2, "x86_64", ["d"]),
        ("fpu sse2", "x86_64", []),
        ("fp asimd", "aarch64", ["neon"]),
        (AVX512, "riscv64", []),
    ],
)
def test_levels_follow_the_flags(
    flags: str, machine: str, names: list[str], tmp_path: Path
) -> None:
    short = {"a": "avx512bf16", "b": "avx512vnni", "c": "avx512", "d": "avx2"}
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: Some\nflags\t\t: {flags}\n\nprocessor: 1\n")
    found = [level.name for level in supported(cpuinfo, machine)]
    assert found == [short.get(name, name) for name in names]


def test_without_cpuinfo_there_is_no_level(tmp_path: Path) -> None:
    assert supported(tmp_path / "none", "x86_64") == ()


def test_the_best_one_is_chosen_or_the_one_asked_for() -> None:
    levels = supported()
    assert choose({}) == (levels[0] if levels else None)
    for level in levels:
        assert choose({"INFERD_CPU_ISA": level.name}) == level


def test_a_level_that_the_processor_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(ValueError, match=r"INFERD_CPU_ISA: there is no level 'mmx'; this proc"):
        choose({"INFERD_CPU_ISA": "mmx"})


def test_names_of_levels_are_distinct() -> None:
    names = [level.name for levels in LEVELS.values() for level in levels]
    assert len(names) == len(set(names))
