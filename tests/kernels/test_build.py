"""The build, on small sources: cached, shared, done anew when it must be, clear where it can't."""

from __future__ import annotations

import _ctypes
import ctypes
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from inferd_kernels.cpu import __main__ as command
from inferd_kernels.cpu import build, cache
from inferd_kernels.cpu import library as library_module
from inferd_kernels.cpu.build import BuildError, ensure
from inferd_kernels.cpu.isa import Isa

PLAIN = Isa("plain", ())
FILES = {
    "one/number.h": "#pragma once\nconstexpr int kNumber = 1;\n",
    "one/cpu.cpp": '#include "one/number.h"\nextern "C" int one() { return kNumber; }\n',
    "two/cpu.cpp": 'extern "C" int two() { return 2; }\n',
}


class Workshop:
    """Sources, a cache, and a compiler that writes down what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.sources = folder / "sources"
        self.cache = folder / "cache"
        self.compiler = folder / "compiler"
        self._calls = folder / "calls"
        for name, text in FILES.items():
            self.write(name, text)
        found = build.find_compiler({}).path
        self.compiler.write_text(f'#!/bin/sh\necho "$@" >>{self._calls}\nexec {found} "$@"\n')
        self.compiler.chmod(0o755)

    def write(self, name: str, text: str) -> None:
        path = self.sources / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def ensure(self) -> ctypes.CDLL:
        self._calls.write_text("")
        return ctypes.CDLL(str(ensure(PLAIN, self.cache)))

    @property
    def compiled(self) -> list[str]:
        """The sources that the last `ensure` compiled; "linked" where it linked."""
        lines = self._calls.read_text().splitlines()
        return sorted("linked" if "-shared" in line else _source(line) for line in lines)


def _source(line: str) -> str:
    words = line.split()
    return "/".join(Path(words[words.index("-c") + 1]).parts[-2:])


ALL = ["linked", "one/cpu.cpp", "two/cpu.cpp"]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path)
    monkeypatch.setattr(build, "SOURCES", made.sources)
    monkeypatch.setenv("CXX", str(made.compiler))
    return made


def only_file(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_built_once(workshop: Workshop) -> None:
    built = workshop.ensure()
    assert (built.one(), built.two()) == (1, 2)
    assert workshop.compiled == ALL
    workshop.ensure()
    assert workshop.compiled == []


def test_only_what_changed_is_compiled_again(workshop: Workshop) -> None:
    workshop.ensure()
    workshop.write("one/number.h", "#pragma once\nconstexpr int kNumber = 11;\n")
    assert workshop.ensure().one() == 11
    assert workshop.compiled == ["linked", "one/cpu.cpp"]


def test_other_flags_make_another_library(workshop: Workshop) -> None:
    plain = ensure(PLAIN, workshop.cache)
    assert ensure(Isa("plain", ("-DOTHER",)), workshop.cache) != plain


def test_another_compiler_builds_anew(workshop: Workshop) -> None:
    workshop.ensure()
    os.utime(workshop.compiler, (1, 1))
    workshop.ensure()
    assert workshop.compiled == ALL


def test_without_a_compiler_what_there_is_loads(workshop: Workshop) -> None:
    workshop.ensure()
    workshop.compiler.unlink()
    assert workshop.ensure().two() == 2


@pytest.mark.parametrize("what", ["truncated", "changed", "no digest", "no compiler's name"])
def test_a_library_that_is_not_whole_is_linked_again(workshop: Workshop, what: str) -> None:
    library = ensure(PLAIN, workshop.cache)
    content = library.read_bytes()
    library.chmod(0o600)
    if what == "truncated":
        library.write_bytes(content[: len(content) // 2])
    elif what == "changed":
        library.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif what == "no digest":
        library.with_name(library.name + ".sha256").unlink()
    else:
        (library.parent / "compiler").unlink()
    assert workshop.ensure().one() == 1
    assert workshop.compiled == ["linked"]


def test_objects_that_are_not_whole_are_compiled_again(workshop: Workshop) -> None:
    library = ensure(PLAIN, workshop.cache)
    library.unlink()
    for each in (workshop.cache / "objects").glob("*.o"):
        each.write_bytes(each.read_bytes()[:100])
    assert workshop.ensure().one() == 1
    assert workshop.compiled == ALL


def test_a_broken_library_is_not_loaded_where_there_is_no_compiler(workshop: Workshop) -> None:
    ensure(PLAIN, workshop.cache).write_bytes(b"half a library")
    workshop.compiler.unlink()
    with pytest.raises(BuildError, match="there is no C"):
        ensure(PLAIN, workshop.cache)


def test_processes_that_start_at_once_build_once(workshop: Workshop) -> None:
    program = f"""
import pathlib, sys
from inferd_kernels.cpu import build
from inferd_kernels.cpu.isa import Isa
build.SOURCES = pathlib.Path({str(workshop.sources)!r})
sys.stdin.read(1)
print(build.ensure(Isa("plain", ()), pathlib.Path({str(workshop.cache)!r})))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go")
        process.stdin.flush()
    paths = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(paths) == 1
    assert workshop.compiled == ALL


def test_what_a_killed_build_left_is_removed(workshop: Workshop) -> None:
    library = ensure(PLAIN, workshop.cache)
    library.unlink()
    left = library.parent / "build-killed"
    left.mkdir()
    workshop.ensure()
    assert not left.exists()


def test_old_libraries_go(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "KEEP_LIBRARIES", 2)
    libraries = []
    for number in range(4):
        workshop.write("one/number.h", f"#pragma once\nconstexpr int kNumber = {number};\n")
        libraries.append(ensure(PLAIN, workshop.cache))
        os.utime(libraries[-1].parent, (number, number))
    assert [each.exists() for each in libraries] == [False, False, True, True]


def test_a_compilers_error_is_one_line_and_a_file(workshop: Workshop) -> None:
    workshop.write("two/cpu.cpp", 'extern "C" int two() { return nothing; }\n')
    with pytest.raises(BuildError, match=r"two/cpu.cpp:1:31: error: .*nothing") as caught:
        workshop.ensure()
    assert "\n" not in str(caught.value)
    assert "nothing" in only_file(workshop.cache, "plain-*/errors.txt").read_text()


def test_a_folder_that_cannot_be_made_is_named(workshop: Workshop) -> None:
    workshop.cache.write_text("a file")
    with pytest.raises(BuildError, match=str(workshop.cache)):
        ensure(PLAIN, workshop.cache)


def test_where_home_cannot_be_written_temporary_files_can(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.write_text("a file")
    temporary.mkdir()
    monkeypatch.setattr(cache, "folders", lambda: (home / "kernels", temporary / "kernels"))
    library = ensure(PLAIN)
    assert temporary in library.parents
    assert stat.S_IMODE((temporary / "kernels").stat().st_mode) == 0o700
    assert ensure(PLAIN) == library


def test_folders_that_others_can_write_to_are_not_used(workshop: Workshop, tmp_path: Path) -> None:
    ensure(PLAIN, workshop.cache)
    link = tmp_path / "link"
    link.symlink_to(workshop.cache)
    with pytest.raises(BuildError, match="belongs to others"):
        ensure(PLAIN, link)
    workshop.cache.chmod(0o777)
    with pytest.raises(BuildError, match="belongs to others"):
        ensure(PLAIN, workshop.cache)


def test_folders_follow_the_environment() -> None:
    first, second = cache.folders({"XDG_CACHE_HOME": "/somewhere"})
    assert first == Path("/somewhere/inferd/kernels")
    assert second.name == f"inferd-kernels-{os.getuid()}"


def test_no_compiler_names_what_was_looked_for() -> None:
    with pytest.raises(BuildError, match=r"there is no C\+\+ compiler \(no-such\)"):
        build.find_compiler({"CXX": "no-such"})


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("CXX", "no-such", "there is no C++ compiler (no-such)"),
        ("INFERD_CPU_ISA", "mmx", "INFERD_CPU_ISA: there is no level 'mmx'"),
        ("INFERD_CPU_KERNELS", "0", "INFERD_CPU_KERNELS=0"),
    ],
)
def test_one_line_says_why_there_are_no_kernels(
    variable: str,
    value: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(library_module, "load", library_module.load.__wrapped__)  # no cache
    with caplog.at_level(logging.INFO, "inferd.kernels"):
        found = library_module.found.__wrapped__()
    assert (found.library, found.level) == (None, "")
    assert reason in found.reason
    (record,) = caplog.records
    assert reason in record.message
    assert "\n" not in record.message


def test_a_library_of_something_else_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "ensure", lambda isa: Path(_ctypes.__file__))
    with pytest.raises(BuildError, match="holds something else"):
        library_module.load.__wrapped__(PLAIN)


def test_the_command_says_what_it_did_and_why_not(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "folders", lambda: (workshop.cache,))
    monkeypatch.setattr(command, "choose", lambda: PLAIN)
    assert command.main([]) == 0
    assert "C++ kernels for plain" in capsys.readouterr().out
    assert command.main(["mmx"]) == 1
    assert "No C++ kernels: there is no level 'mmx'" in capsys.readouterr().err
    workshop.compiler.unlink()
    workshop.write("two/cpu.cpp", "changed")
    assert command.main([]) == 1
    assert "No C++ kernels: there is no C++ compiler" in capsys.readouterr().err
