"""Where environments, checkpoints and GGUF files lie: outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.models.shapes import Shape
from benchmarks.models.write import cache_folder, checkpoint

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Place:
    """What runners are started with."""

    environments: Path
    checkpoint: Path
    threads: int

    def python(self, environment: str) -> Path:
        """Of an environment that `setup` made; `ours` is the one that runs this."""
        if environment == "ours":
            return Path(sys.executable)
        return self.environments / environment / "bin" / "python"

    def gguf(self, kind: str) -> Path:
        """The checkpoint in llama.cpp's format, written if it is not there."""
        file = self.checkpoint.with_name(f"{self.checkpoint.name}.{kind}.gguf")
        if not file.exists():
            unfinished = file.with_suffix(".part")
            writer = [str(self.python("llama")), "-m", "benchmarks.peers.runners.write_gguf"]
            arguments = [str(self.checkpoint), str(unfinished), kind]
            subprocess.run([*writer, *arguments], cwd=ROOT, check=True)
            unfinished.rename(file)
        return file

    def preload(self, *libraries: str) -> str:
        """The value of LD_PRELOAD for those of these libraries that are here."""
        folders = [self.environments / "vllm" / "lib", self.environments / "tcmalloc"]
        found = [next(each.rglob(name), None) for name in libraries for each in folders]
        return ":".join(str(file) for file in found if file)


def place(shape: Shape) -> Place:
    """On this machine; writes the checkpoint if it is not there."""
    environments = cache_folder() / "peers"
    return Place(environments, checkpoint(shape), len(os.sched_getaffinity(0)))
