"""Two models and six adapters in one daemon whose memory fits one and a half models.

A quiet daemon first says what each generation of each adapter answers. A second daemon, on the same
state folder, gets a budget of one and a half models; clients ask for everything at once while an
operator swaps, rolls back and unloads adapters. Each reply is compared with what was said before,
and the ledger with the memory of the processes. Exits with 1 if anything was lost, stale or off.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.show_many.client import Client
from benchmarks.show_many.judge import Judge
from benchmarks.show_many.names import Names
from benchmarks.show_many.scenes import (
    BASES,
    Adapter,
    Looks,
    Operator,
    Rehearsal,
    begin,
    make_all,
    rehearse,
    traffic,
)
from inferd.bench.daemon import DaemonProcess
from inferd.units import human_bytes

KV_CACHE_BYTES = 384 * 2**20
ENGINE = {"kv_cache_bytes": KV_CACHE_BYTES, "max_adapters": 2, "max_adapter_rank": 16}
OPTIONS = (
    *("--kv-cache-bytes", str(KV_CACHE_BYTES), "--max-adapters", "2", "--max-adapter-rank", "16"),
    *("--max-batch-size", "16", "--log-level", "info"),
)
TOLERANCE = 0.10  # between the ledger and what the processes take
NEWS_S = 5.0  # between lines about the traffic
POLL_S = 0.1
START_S = 60.0
ENOUGH_LOOKS = 3

_began = time.monotonic()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/show_many", description=__doc__)
    parser.add_argument("--seconds", type=float, default=45, help="of traffic [default: 45]")
    parser.add_argument("--clients", type=int, default=12, help="at once [default: 12]")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="show_many-") as folder:
        return asyncio.run(show(Path(folder), arguments))


async def show(folder: Path, arguments: argparse.Namespace) -> int:
    say("making a second base model and six adapters, two generations each")
    twin, adapters = make_all(folder)
    state = ("--state-dir", str(folder / "state"))
    with DaemonProcess((*OPTIONS, *state)) as daemon:
        async with Client(daemon.wait_ready(START_S)[1]) as client:
            rehearsal, need = await quiet(client, twin, adapters)
    budget = need * 3 // 2
    say(f"the same again with a budget of {human_bytes(budget)}: one and a half models")
    budgeted = ("--memory-budget", str(budget))
    with DaemonProcess((*OPTIONS, *state, *budgeted)) as daemon:
        async with Client(daemon.wait_ready(START_S)[1]) as client:
            judge, looks, operator = await perform(
                daemon.pid, client, adapters, rehearsal, arguments
            )
    problems = faults(judge, looks, budget)
    report(judge, looks, operator, budget)
    for problem in problems:
        print(f"  WRONG: {problem}")
    if problems:
        print("\nThe daemon's log ends so:\n" + "\n".join(line for _, line in daemon.lines[-20:]))
    return 1 if problems else 0


async def quiet(client: Client, twin: Path, adapters: list[Adapter]) -> tuple[Rehearsal, int]:
    """What is said without any haste, and the bytes that one model needs."""
    deploy_id = await client.deploy("twin", str(twin), **ENGINE)
    await runs(client, deploy_id)
    say("a daemon without a budget serves both; asking it what each generation says")
    rehearsal = await rehearse(client, adapters)
    rehearsal.check()
    host = await client.ledger()
    need = max(each["reserved"] for each in host["holdings"])
    count = len(rehearsal.texts)
    say(f"heard {count} replies; a model needs {human_bytes(need)} of memory")
    return rehearsal, need


async def runs(client: Client, deploy_id: str) -> None:
    """Wait until a deployment runs."""
    while (status := await client.deployment(deploy_id))["status"] != "running":
        if status["status"] == "failed":
            raise SystemExit(f"{status['model_name']} failed: {status['fail_reason']}")
        await asyncio.sleep(POLL_S)


async def perform(
    daemon: int,
    client: Client,
    adapters: list[Adapter],
    rehearsal: Rehearsal,
    arguments: argparse.Namespace,
) -> tuple[Judge, Looks, Operator]:
    """Traffic and changes for a while, then silence and a last look at the memory."""
    for each in await client.deployments():
        await runs(client, each["deploy_id"])
    names = Names()
    begin(names, rehearsal)
    judge, looks = Judge(names, rehearsal.texts), Looks()
    operator = Operator(client, names, adapters, rehearsal.generations, say)
    models = [*BASES, *(each.name for each in adapters)]
    clients = [
        traffic(client, judge, models, random.Random(f"{arguments.seed}-{number}"))
        for number in range(arguments.clients)
    ]
    work = [*clients, operator.work(), looks.keep_looking(client, daemon), news(client, judge)]
    say(f"{arguments.clients} clients ask for {len(models)} models, for {arguments.seconds:g} s")
    tasks = [asyncio.create_task(each) for each in work]
    done, _ = await asyncio.wait(
        tasks, timeout=arguments.seconds, return_when=asyncio.FIRST_EXCEPTION
    )
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in done:
        task.result()  # none of them ends by itself
    await last_look(client, daemon, looks)
    return judge, looks, operator


async def last_look(client: Client, daemon: int, looks: Looks) -> None:
    """One when nothing runs any more."""
    say("silence; a last look at the memory")
    count = looks.count
    for _ in range(100):
        running = [each["in_flight"] for each in await client.deployments()]
        if not any(running):
            await looks.look(client, daemon)
        if looks.count > count:
            return
        await asyncio.sleep(POLL_S)


async def news(client: Client, judge: Judge) -> None:
    """Tell of the traffic, for ever."""
    while True:
        await asyncio.sleep(NEWS_S)
        host = await client.ledger()
        states = ", ".join(
            f"{each['owner']} {'asleep' if each['asleep'] else 'awake'}"
            for each in host["holdings"]
        )
        say(
            f"         {judge.right} right, {len(judge.lost)} lost, {len(judge.stale)} stale; "
            f"{states}; {human_bytes(host['reserved'])} of {human_bytes(host['budget'])} reserved"
        )


def faults(judge: Judge, looks: Looks, budget: int) -> list[str]:
    """Everything that should not have happened."""
    problems = [f"lost: {each}" for each in judge.lost] + [f"stale: {e}" for e in judge.stale]
    if looks.worst > TOLERANCE:
        problems.append(f"the ledger was off by {looks.worst:.1%}")
    if looks.count < ENOUGH_LOOKS:
        problems.append(f"the ledger could be compared {looks.count} times only")
    if looks.most > budget:
        problems.append(f"{human_bytes(looks.most)} were reserved, which is above the budget")
    if not looks.asleep:
        problems.append("no model ever had to sleep, so nothing was shown")
    silent = {*BASES} - {name.partition("-")[0] for name in judge.by_name}
    problems += [f"{base} never answered" for base in sorted(silent)]
    return problems[:20]


def report(judge: Judge, looks: Looks, operator: Operator, budget: int) -> None:
    done = ", ".join(f"{count} {kind}s" for kind, count in operator.done.items())
    counts = ", ".join(f"{name} {count}" for name, count in sorted(judge.by_name.items()))
    print(
        f"\n  requests  {judge.total}: {judge.right} right to the letter, {len(judge.lost)} lost, "
        f"{len(judge.stale)} stale,\n"
        f"            {judge.left} that the client left, {judge.unloaded} refused for an adapter "
        f"just unloaded\n"
        f"  answered  {counts}\n"
        f"  changes   {done}\n"
        f"  memory    {human_bytes(looks.reserved)} in the ledger, {human_bytes(looks.measured)} "
        f"in the processes at the end;\n"
        f"            off by {looks.worst:.1%} at worst in {looks.count} looks; at most "
        f"{human_bytes(looks.most)} of {human_bytes(budget)} reserved\n"
    )


def say(text: str) -> None:
    print(f"{time.monotonic() - _began:6.1f} s  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
