"""Starts runners, and remembers what each start took and what each variant said of itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
    def group(self, variants: Sequence[Variant]) -> Iterator[dict[str, Runner]]:
        """All of them at once; one that can't start is said and left out."""
        runners: dict[str, Runner] = {}
        with ExitStack() as stack:
            for variant in variants:
                try:
                    runners[variant.name] = runner = self.start(variant)
                except RunnerFailed as failed:
                    self.failures[variant.name] = str(failed)
                    self.say(f"  {variant.label}: left out: {failed}")
                else:
                    stack.callback(runner.close)
                    self.say(f"  {variant.label}: first token after {runner.started_s:.1f} s")
            yield runners

    def ceilings(self) -> Runner:
        """What measures the machine rather than an engine."""
        command = [str(self.place.python("ours")), "-m", "benchmarks.peers.runners.ceilings"]
        environment = {"OMP_NUM_THREADS": str(self.place.threads)}
        return Runner(command, environment, self.logs / "ceilings.log")


def read_ahead(files: Sequence[Path]) -> None:
    """Bring files into the page cache."""
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.read(1 << 24):
                pass
