"""How many streamed tokens the front carries per second of the daemon's own processor time.

    python -m benchmarks.front [--streams N] [--tokens N] [--rounds N] [--delay S] [--api API]

A daemon with the echo engine, which costs nothing, streams to a client in another process;
logprobs are off. Per API and round: tokens and events over the daemon's CPU seconds (its engine's
process apart), and over the client's. Medians of the rounds. `bare` is a server that only writes
prepared events to its sockets, measured in turn with the daemon: the ratio to it says how much of
the cost is ours, whatever the machine and whoever else uses it.

With `--delay`, the seconds between an engine's steps, tokens come evenly; 0 sends as fast as the
engine can, and the daemon may then be handed several tokens of a stream at once.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import uvloop

from benchmarks.record import save
from inferd.bench.completions import Asked, Sender
from inferd.bench.daemon import DaemonProcess, cpu_seconds
from inferd.bench.load import closed_loop
from inferd.bench.transport import Server, Transport
from inferd.bench.workload import Lengths, Tokenization, random_prompts

APIS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
CODE = ("runtime/inferd", "benchmarks/front")
VOCABULARY = 4096  # the demo model's, whose tokenizer the daemon uses

Figures = dict[str, float]


class Subject:
    """A server under load: its URL's path and process."""

    def __init__(self, url: str, path: str, pid: int) -> None:
        self.url, self.path, self.pid = url, path, pid
        self.rounds: list[Figures] = []

    def measure(self, streams: int, tokens: int) -> Figures:
        """One round of `streams` requests at once, of `tokens` each."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._measure(streams, tokens))

    async def _measure(self, streams: int, tokens: int) -> Figures:
        clock = time.perf_counter
        transport = Transport(Server.of(self.url), "", clock=clock)
        sender = Sender(transport, Asked(self.path, "demo"), clock=clock, timeout=120)
        prompts = random_prompts(streams, Lengths(16, tokens), Tokenization(), seed=0)
        began, cpu, ours = clock(), cpu_seconds(self.pid), time.process_time()
        records = await closed_loop(prompts, streams, sender.send, clock=clock)
        wall, ours = clock() - began, time.process_time() - ours
        cpu = cpu_seconds(self.pid) - cpu
        transport.close()
        for record in records:
            if record.error or record.tokens != tokens:
                raise SystemExit(f"{record.error}: {record.message} ({record.tokens} tokens)")
        total, events = streams * tokens, sum(len(record.arrivals) for record in records)
        return {
            "tokens_per_cpu_s": total / cpu,
            "events_per_cpu_s": events / cpu,
            "tokens_per_s": total / wall,
            "cpu_share": cpu / wall,
            "client_tokens_per_cpu_s": total / ours,
        }

    def figures(self) -> Figures:
        """Medians of the rounds."""
        names = self.rounds[0]
        return {name: round(median(each[name] for each in self.rounds), 3) for name in names}


@contextmanager
def bare_server(delay: float) -> Iterator[Subject]:
    command = [sys.executable, "-m", "benchmarks.front.bare", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        try:
            yield Subject(f"http://127.0.0.1:{port}", APIS["completions"], process.pid)
        finally:
            process.kill()


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Figures]:
    """By subject: `bare`, and each API of the daemon."""
    options = ["--engine", f"echo:vocab_size={VOCABULARY},delay={arguments.delay}"]
    options += ["--max-batch-size", str(arguments.streams), "--log-level", "warning"]
    with bare_server(arguments.delay) as bare, DaemonProcess(options) as daemon:
        _, url = daemon.wait_ready(60)
        apis = APIS if arguments.api == "all" else {arguments.api: APIS[arguments.api]}
        subjects = {"bare": bare} | {
            name: Subject(url, path, daemon.pid) for name, path in apis.items()
        }
        for subject in subjects.values():
            subject.measure(arguments.streams, max(1, arguments.tokens // 4))  # warm-up
        for _ in range(arguments.rounds):
            for name, subject in subjects.items():
                figures = subject.measure(arguments.streams, arguments.tokens)
                subject.rounds.append(figures)
                say(f"{name:12} {figures['tokens_per_cpu_s']:9.0f} tokens per CPU second")
    found = {name: subject.figures() for name, subject in subjects.items()}
    for figures in found.values():
        cost = found["bare"]["tokens_per_cpu_s"] / figures["tokens_per_cpu_s"]
        figures["times_bare"] = round(cost, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.004)
    parser.add_argument("--api", choices=[*APIS, "all"], default="all")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/front.json")
    arguments = parser.parse_args()
    found: dict[str, Any] = run(arguments, lambda line: print(line, flush=True))
    print(
        f"\n{'median':12} {'tokens/CPU s':>12} {'events/CPU s':>12} {'tokens/s':>9} "
        f"{'CPU share':>9} {'× bare':>7} {'client tokens/CPU s':>20}"
    )
    for name, figures in found.items():
        print(
            f"{name:12} {figures['tokens_per_cpu_s']:12.0f} {figures['events_per_cpu_s']:12.0f} "
            f"{figures['tokens_per_s']:9.0f} {figures['cpu_share']:9.2f} "
            f"{figures['times_bare']:7.2f} {figures['client_tokens_per_cpu_s']:20.0f}"
        )
    if arguments.save:
        options = {name: value for name, value in vars(arguments).items() if name != "save"}
        print(save("front", {"options": options, **found}, CODE))


if __name__ == "__main__":
    main()
