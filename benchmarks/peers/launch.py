"""Starts runners, and remembers what each start took and what each variant said of itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.models.shapes import Shape
from benchmarks.peers.environments import Place
from benchmarks.peers.process import Runner, RunnerFailed
from benchmarks.peers.variants import Variant

Say = Callable[[str], None]


@dataclass(slots=True)
class Launcher:
    """What is known of the variants, by name, from their starts."""

    place: Place
    shape: Shape
    say: Say
    logs: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="inferd-peers-")))
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def start(self, variant: Variant) -> Runner:
        """From page cache: whoever measures a start has read the files before."""
        arguments, environment = variant.start(self.place, self.shape)
        command = [str(self.place.python(variant.environment)), *arguments]
        runner = Runner(command, environment, self.logs / f"{variant.name}.log")
        about = {key: runner.ready[key] for key in ("versions", "settings")}
        self.about[variant.name] = {"label": variant.label, "weights": variant.weights} | about
        self.starts.setdefault(variant.name, []).append(round(runner.started_s, 2))
        return runner

    @contextmanager
    def one(self, variant: Variant) -> Iterator[Runner]:
        runner = self.start(variant)
        try:
            yield runner
        finally:
            runner.close()

    @contextmanager
    def group(self, variants: Sequence[Variant]) -> Iterator[Group]:
        """All of them at once; one that can't start is left out."""
        group = Group(self)
        try:
            for variant in variants:
                try:
                    group.runners[variant.name] = runner = self.start(variant)
                except RunnerFailed as failed:
                    group.leave_out(variant.name, str(failed))
                else:
                    self.say(f"  {variant.label}: first token after {runner.started_s:.1f} s")
            yield group
        finally:
            for runner in group.runners.values():
                runner.close()

    def ceilings(self) -> Runner:
        """What measures the machine rather than an engine."""
        command = [str(self.place.python("ours")), "-m", "benchmarks.peers.runners.ceilings"]
        environment = {"OMP_NUM_THREADS": str(self.place.threads)}
        return Runner(command, environment, self.logs / "ceilings.log")


@dataclass(slots=True)
class Group:
    """Runners that are in memory together, by name."""

    launcher: Launcher
    runners: dict[str, Runner] = field(default_factory=dict)

    def ask(self, name: str, command: Mapping[str, Any]) -> dict[str, Any] | None:
        """None if it can't answer; it is left out from then on."""
        try:
            return self.runners[name].ask(command)
        except RunnerFailed as failed:
            self.leave_out(name, str(failed))
            return None

    def leave_out(self, name: str, why: str) -> None:
        """End it, say why, and have the result file say so too."""
        self.launcher.failures[name] = why
        self.launcher.say(f"  {name} is left out: {why} (see {self.launcher.logs})")
        if name in self.runners:
            self.runners.pop(name).close()


def read_ahead(files: Sequence[Path]) -> None:
    """Bring files into the page cache."""
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.read(1 << 24):
                pass
