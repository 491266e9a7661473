"""How much slower a model is through HTTP than without.

    python -m benchmarks.overhead [MODEL] [--streams N] [--tokens N] [--rounds N] [--num-threads N]

MODEL is a folder; without it, the demo model. So many streams run at once, in turn two ways: the
engine's core alone, in a process of its own with no daemon, and a daemon with a client in this
process. Both are warm, both take the same token ids, and neither shares the machine with the
other's work. Per round: tokens per second of either, from the first submission to the last token,
and their ratio. The overhead is 1 - the median ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from benchmarks.record import save
from inferd.bench.completions import Asked, Sender
from inferd.bench.daemon import DaemonProcess, cpu_seconds
from inferd.bench.load import closed_loop
from inferd.bench.transport import Server, Transport
from inferd.bench.workload import Prompt

DEMO = Path(__file__).resolve().parents[2] / "runtime/inferd/demo"
CODE = ("runtime/inferd", "kernels", "scheduler", "benchmarks/overhead")
INPUT_LEN = 32
READY_S = 300.0


class Alone:
    """The core in a child process; see `benchmarks.overhead.alone`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tokens_per_s(self, seed: int, streams: int, tokens: int) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([seed, streams, INPUT_LEN, tokens]) + "\n")
        self._process.stdin.flush()
        return streams * tokens / float(self._process.stdout.readline())


@contextmanager
def core_alone(model: Path, streams: int, threads: int | None) -> Iterator[Alone]:
    given = [str(model), str(streams), *([] if threads is None else [str(threads)])]
    command = [sys.executable, "-m", "benchmarks.overhead.alone", *given]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Alone(process)
        process.kill()


class Served:
    """A daemon, and a client to it in this process."""

    def __init__(self, daemon: DaemonProcess, url: str, model: str, vocab_size: int) -> None:
        self._daemon = daemon
        self._url = url
        self._model = model
        self._vocab_size = vocab_size

    def measure(self, seed: int, streams: int, tokens: int) -> dict[str, float]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._measure(seed, streams, tokens))

    async def _measure(self, seed: int, streams: int, tokens: int) -> dict[str, float]:
        clock = time.perf_counter
        transport = Transport(Server.of(self._url), "", clock=clock)
        sender = Sender(transport, Asked("/v1/completions", self._model), clock=clock, timeout=600)
        chance = random.Random(seed)
        ids = [chance.choices(range(self._vocab_size), k=INPUT_LEN) for _ in range(streams)]
        prompts = [Prompt(each, tokens) for each in ids]
        cpu, ours = cpu_seconds(self._daemon.pid), time.process_time()
        records = await closed_loop(prompts, streams, sender.send, clock=clock)
        ours, cpu = time.process_time() - ours, cpu_seconds(self._daemon.pid) - cpu
        transport.close()
        for record in records:
            if record.error or record.tokens != tokens:
                raise SystemExit(f"{record.error}: {record.message} ({record.tokens} tokens)")
        seconds = max(record.ended for record in records) - min(each.sent for each in records)
        return {
            "tokens_per_s": streams * tokens / seconds,
            "daemon_cpu_share": cpu / seconds,
            "client_cpu_share": ours / seconds,
        }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rounds of both, one after the other."""
    model: Path = arguments.model.resolve()
    name = "subject"
    options = [str(model), "--served-model-name", name, "--log-level", "warning"]
    options += ["--max-batch-size", str(arguments.streams)]
    threads = arguments.num_threads
    options += [] if threads is None else ["--num-threads", str(threads)]
    vocab_size = int(json.loads((model / "config.json").read_text())["vocab_size"])
    rounds: list[dict[str, float]] = []
    streams, tokens = arguments.streams, arguments.tokens
    with core_alone(model, streams, threads) as alone, DaemonProcess(options) as daemon:
        served = Served(daemon, daemon.wait_ready(READY_S)[1], name, vocab_size)
        for seed in range(arguments.rounds + 1):
            core = alone.tokens_per_s(seed, streams, tokens) if seed % 2 else 0.0
            figures = served.measure(seed, streams, tokens)
            core = core or alone.tokens_per_s(seed, streams, tokens)  # who goes first changes
            figures["core_tokens_per_s"] = core
            figures["ratio"] = figures["tokens_per_s"] / figures["core_tokens_per_s"]
            if seed:  # the first round is to warm up
                rounds.append(figures)
                print(
                    f"{figures['tokens_per_s']:8.0f} tok/s through HTTP, "
                    f"{figures['core_tokens_per_s']:8.0f} without: {figures['ratio']:.3f}",
                    flush=True,
                )
    medians = {name: round(median(each[name] for each in rounds), 4) for name in rounds[0]}
    return {"medians": medians, "overhead": round(1 - medians["ratio"], 4), "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=DEMO)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--num-threads", type=int, help="of the engine, in both")
    parser.add_argument("--save", action="store_true", help="write results/overhead.json")
    arguments = parser.parse_args()
    found = run(arguments)
    print(f"overhead {found['overhead']:.1%}")
    for name, value in found["medians"].items():
        print(f"{name:20} {value}")
    if arguments.save:
        options = {name: getattr(arguments, name) for name in ("streams", "tokens", "num_threads")}
        print(save("overhead", {"model": arguments.model.name, **options, **found}, CODE))


if __name__ == "__main__":
    main()
