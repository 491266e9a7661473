"""The team of threads: whoever takes which part, the whole is right, and nothing hangs."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inferd_kernels.cpu.build import FLAGS, SOURCES, find_compiler

DRIVER = Path(__file__).with_name("team_stress.cpp")

PROGRAM = """
import ctypes, os, signal, sys
driver = ctypes.CDLL(sys.argv[1])
driver.inferd_set_threads(3)
def stress():
    args = map(ctypes.c_int64, (20, 3, 500, 16))
    return driver.team_stress(*args)
assert stress() == 0
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("team") / "driver.so"
    sources = [str(DRIVER), str(SOURCES / "cpu" / "team.cpp")]
    command = [find_compiler().path, *FLAGS, f"-I{SOURCES}", "-shared", *sources, "-o", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def driver(library: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(library))


def stress(driver: ctypes.CDLL, runs: int, loops: int, n: int, grain: int) -> int:
    driver.team_stress.restype = ctypes.c_int64
    wrong: int = driver.team_stress(*map(ctypes.c_int64, (runs, loops, n, grain)))
    return wrong


def run(library: Path, ending: str) -> subprocess.CompletedProcess[str]:
    """PROGRAM and `ending`, in a process of its own that must come to its end."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + ending, str(library)],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("loops", "n", "grain"), [(1, 1, 1), (6, 3000, 16), (3, 5, 100), (4, 0, 1)]
)
def test_every_part_is_done_once(
    driver: ctypes.CDLL, threads: int, loops: int, n: int, grain: int
) -> None:
    driver.inferd_set_threads(threads)
    assert stress(driver, 100, loops, n, grain) == 0


def test_the_number_of_threads_may_change_between_runs(driver: ctypes.CDLL) -> None:
    for threads in (3, 1, 2, 3, 0, -5, 2) * 5:
        driver.inferd_set_threads(threads)
        assert stress(driver, 5, 3, 200, 8) == 0


def test_callers_take_turns(driver: ctypes.CDLL) -> None:
    driver.inferd_set_threads(3)
    with ThreadPoolExecutor(4) as pool:
        wrong = pool.map(lambda n: stress(driver, 50, 3, n, 16), (10, 300, 1000, 1))
    assert list(wrong) == [0] * 4


def test_a_process_ends_while_its_threads_sleep_or_wait(library: Path) -> None:
    for ending in ("", "import time; time.sleep(0.05)"):
        done = run(library, ending)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_fork_has_threads_of_its_own(library: Path) -> None:
    ending = """
child = os.fork()
if child == 0:
    wrong = stress()
    os._exit(10 + len(os.listdir("/proc/self/task")) if wrong == 0 else 1)
assert stress() == 0
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = run(library, ending)
    assert (done.stdout, done.stderr) == ("13\n", "")


def test_a_fork_amid_other_callers_neither_hangs_nor_breaks(library: Path) -> None:
    ending = """
import threading
done = []
caller = threading.Thread(target=lambda: done.extend(stress() for _ in range(50)))
caller.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(stress() != 0)
    assert os.waitpid(child, 0)[1] == 0
caller.join()
print(sum(done), len(done))
"""
    done = run(library, ending)
    assert (done.stdout, done.stderr) == ("0 50\n", "")


def test_signals_are_left_to_the_programs_own_threads(library: Path) -> None:
    ending = """
for task in os.listdir("/proc/self/task"):
    if int(task) != os.getpid():
        status = open(f"/proc/self/task/{task}/status").read()
        blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
        print(bool(blocked >> signal.SIGINT - 1 & 1), bool(blocked >> signal.SIGTERM - 1 & 1))
"""
    assert run(library, ending).stdout == "True True\n" * 2


def test_no_memory_is_said_before_the_end(library: Path) -> None:
    done = run(library, "driver.team_stress(*map(ctypes.c_int64, (1, 1, 1 << 50, 1 << 40)))")
    assert done.returncode == -6
    assert done.stderr.startswith("inferd's kernels: there are no 9007199254740992 bytes of memory")
