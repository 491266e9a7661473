"""The check as a whole: a rehearsal, what a part leaves behind, no GPU, wheels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import running, wheels
from benchmarks.gpu.report import Report
from benchmarks.record import RESULTS

WRONG = "ValueError: invalid literal for int() with base 10: 'no'"
SCRIPT = RESULTS.parents[1] / "scripts" / "gpu_check"


def check(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ) | environ)


@pytest.mark.timeout(300)  # half a minute, where nothing else runs
def test_a_rehearsal_runs_every_part_and_writes_nothing(tmp_path: Path) -> None:
    before = sorted(RESULTS.iterdir())
    done = check("--rehearse", OUT=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-len(running.LIMITS_S) :]
    assert [line.split()[:2] for line in last] == [[name, "ok"] for name in running.LIMITS_S]
    assert "met" not in done.stdout.split()
    assert sorted(RESULTS.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = check()
    assert done.returncode == 2
    assert "no GPU: nothing was checked or measured" in done.stderr
    assert done.stdout == ""


def test_a_folder_of_wheels_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = check("--rehearse", "--wheels", str(tmp_path / "none"), "ceilings")
    assert done.returncode == 2
    assert "argument --wheels: there is no folder" in done.stderr


def test_all_parts_fit_in_eight_minutes() -> None:
    assert running.BUDGET_S <= 470
    assert sum(running.LIMITS_S.values()) <= 1.2 * running.BUDGET_S
    assert "not a part" in check("not a part").stderr


def test_a_part_that_is_killed_leaves_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "benchmarks" / "gpu"
    package.mkdir(parents=True)
    (package / "part.py").write_text(
        "import json, sys, time\n"
        "open(sys.argv[2], 'w').write(json.dumps({'figures': {'a': 1}, 'failures': {}}))\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(running, "ROOT", tmp_path)
    environ = {"PYTHONPATH": str(tmp_path)}
    outcome = running.run("numbers", tmp_path, environ, 3.0, rehearse=False)
    assert outcome.status == "timeout"
    assert outcome.figures == {"a": 1}
    assert outcome.failures == {"time": "not done after 3 s"}


def test_a_part_that_ends_without_a_word_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "ROOT", tmp_path)
    outcome = running.run("numbers", tmp_path, {"PYTHONPATH": ""}, 30.0, rehearse=False)
    assert outcome.status == "failed"
    assert outcome.failures == {"process": "ended with 1"}


def test_a_failure_ends_only_its_own_figure(tmp_path: Path) -> None:
    report = Report(tmp_path / "report.json")
    with report.attempt("first"):
        int("no")
    with report.attempt("second"):
        report.figure("second", 2)
    found = json.loads((tmp_path / "report.json").read_text())
    assert found == {"figures": {"second": 2}, "failures": {"first": WRONG}}


def test_wheels_are_wanted_only_where_a_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not wheels.install(tmp_path / "none", tmp_path / "site")
    monkeypatch.setattr(wheels, "NEEDED", {"json": "json", "surely_not_there": "surely"})
    with pytest.raises(wheels.Missing, match=r"^surely are not installed.*--fetch-wheels"):
        wheels.install(tmp_path, tmp_path / "site")


def test_the_engine_imports_nothing_that_a_gpu_machine_lacks() -> None:
    """What front ends need is neither installed there nor carried along."""
    code = (
        "import sys\n"
        "absent = ('starlette', 'uvicorn', 'zmq', 'sqlalchemy', 'click', 'prometheus_client')\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "import inferd.engines.native.core, benchmarks.gpu.numbers, benchmarks.gpu.linears\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
