"""How long a sleeping model keeps a request waiting, and what its sleep gives back.

    python -m benchmarks.wake [MODEL] [--rounds N] [--device DEVICE]

MODEL is a folder; without it, the demo model. Its process is put to sleep at each level, then a
request for one token is made through a set of replicas, as a daemon does. Times are medians in
seconds: from the request to its first token, and the wake itself. `process_bytes` is what the
child alone holds of main memory, by the kernel's count.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import save
from inferd.engines.base import EngineSpec
from inferd.engines.host import HostEngine
from inferd.engines.memory_use import process_bytes
from inferd.ledger import HOST, Ledger, Need
from inferd.messages import Sampling, SleepLevel, Submit, Tokens
from inferd.replicas.replica_set import ReplicaSet
from inferd.residency import Residency

DEMO = Path(__file__).resolve().parents[2] / "runtime/inferd/demo"
CODE = ("runtime/inferd/engines", "runtime/inferd/replicas", "kernels", "benchmarks/wake")
LEVELS: tuple[SleepLevel, ...] = (1, 2)


class Subject:
    """A model in one replica, with all the room it wants."""

    def __init__(self, model: Path, device: str) -> None:
        spec = EngineSpec(model=str(model), device=device)
        self._hosts: list[HostEngine] = []
        self._requests = 0
        place = HOST if device == "cpu" else "cuda:0"
        room = Residency(Ledger({HOST: 1 << 50, place: 1 << 50}))
        self.replicas = ReplicaSet(
            spec, room, name="subject", need=Need(), devices=(place,), make=self._make
        )

    def _make(self, spec: EngineSpec) -> HostEngine:
        self._hosts.append(HostEngine(spec))
        return self._hosts[-1]

    async def first_token_s(self) -> float:
        """From a request to its first token."""
        self._requests += 1
        began = time.perf_counter()
        submit = Submit(str(self._requests), (1, 2, 3), 1, Sampling(temperature=0.0))
        async with self.replicas.stream(submit) as events:
            first = await anext(events)
            taken = time.perf_counter() - began
        assert isinstance(first, Tokens), first
        return taken

    def process_bytes(self) -> int:
        pid = self._hosts[-1].pid
        return 0 if pid is None else process_bytes(pid)


async def measure(model: Path, device: str, rounds: int) -> dict[str, Any]:
    subject = Subject(model, device)
    info = await subject.replicas.start(lambda progress: None)
    awake = [await subject.first_token_s() for _ in range(rounds + 1)][1:]
    figures: dict[str, Any] = {
        "start_s": round(info.load_s, 3),
        "weight_bytes": info.weight_bytes,
        "kv_cache_bytes": info.kv_cache_bytes,
        "awake": _figures(awake, [], subject.process_bytes()),
    }
    for level in LEVELS:
        figures[f"level_{level}"] = await _sleeps(subject, level, rounds)
    await subject.replicas.close()
    return figures


async def _sleeps(subject: Subject, level: SleepLevel, rounds: int) -> dict[str, Any]:
    tokens: list[float] = []
    sleeps: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        await subject.replicas.sleep(level)
        sleeps.append(time.perf_counter() - began)
        asleep = subject.process_bytes()
        tokens.append(await subject.first_token_s())
    return _figures(tokens, sleeps, asleep)


def _figures(tokens: list[float], sleeps: list[float], num_bytes: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "first_token_s": round(median(tokens), 4),
        "first_token_max_s": round(max(tokens), 4),
        "process_bytes": num_bytes,
    }
    return figures | ({"sleep_s": round(median(sleeps), 4)} if sleeps else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=DEMO)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.model, arguments.device, arguments.rounds))
    for name, value in figures.items():
        print(f"{name:16} {value}", flush=True)
    subject = {"model": arguments.model.name, "device": arguments.device}
    print(save("wake", {**subject, "rounds": arguments.rounds, **figures}, CODE))


if __name__ == "__main__":
    main()
