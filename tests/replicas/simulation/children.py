"""Child processes that are tasks: they answer as an engine's process does, slowly, and fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from inferd.engines.base import EngineSpec
from inferd.engines.process import Ending, Limits
from inferd.engines.wire import Command, GetStats, Message, StartFailed, Stop
from inferd.errors import StartError
from inferd.ledger import HOST, Need
from inferd.messages import (
    Abort,
    AdapterDropped,
    AdapterFailed,
    AdapterInfo,
    Awake,
    DropAdapter,
    EngineInfo,
    EngineStats,
    Fail,
    Finish,
    LoadAdapter,
    MemoryUse,
    Sleep,
    Slept,
    Submit,
    Tokens,
    Wake,
)

BATCH = 4


def token_of(adapter: str) -> int:
    """The only token that an adapter says, or the bare model ("")."""
    return ord(adapter[-1]) if adapter else 1


@dataclass(frozen=True)
class Habits:
    """The longest that each thing takes, in seconds, and how likely each fault is."""

    load_s: float
    step_s: float
    sleep_s: float
    wake_s: float
    cannot_launch: float = 0.0
    cannot_start: float = 0.0
    dies: float = 0.0  # in a step
    refuses: float = 0.0  # a request
    cannot_load: float = 0.0  # an adapter

    def faultless(self) -> Habits:
        return Habits(self.load_s, self.step_s, self.sleep_s, self.wake_s)


class Children:
    """In place of the class `ChildProcess`: launches children, and knows all that live.

    Args:
        needs: model → what a child of it holds of `device`.
    """

    def __init__(
        self, random: Random, habits: Habits, needs: Mapping[str, Need], device: str
    ) -> None:
        self.random = random
        self.habits = habits
        self.needs = needs
        self.device = device
        self.alive: dict[int, Child] = {}
        self.wrongs: list[str] = []  # what a child was told at a time when it must not be
        self._num_launched = 0

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    async def up_to(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.random.random())

    def held(self, device: str) -> int:
        """Bytes that all of them hold."""
        return sum(child.held(device) for child in self.alive.values())

    async def launch(
        self,
        spec: EngineSpec,
        python: str,
        limits: Limits,
        on_messages: Callable[[list[Message]], None],
    ) -> Child:
        """See `ChildProcess`."""
        await self.up_to(0.1)
        if self.chance(self.habits.cannot_launch):
            raise StartError("crashed", "The process could not start")
        self._num_launched += 1
        child = Child(self, self._num_launched, spec.model, limits, on_messages)
        self.alive[child.pid] = child
        return child


class Child:
    """What `HostEngine` needs of a `ChildProcess`, and faults on demand."""

    def __init__(
        self,
        home: Children,
        pid: int,
        model: str,
        limits: Limits,
        on_messages: Callable[[list[Message]], None],
    ) -> None:
        self.pid = pid
        self.model = model
        self.watch_turns = False
        self.phase: Literal["loading", "awake", "asleep", "waking"] = "loading"
        self._home = home
        self._limits = limits
        self._tell = on_messages
        self._verdict = ""
        self._killed = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()
        self._inbox: list[Command] = []
        self._news = asyncio.Event()
        self._outbox: list[Message] = []
        self._running: dict[str, Submit] = {}
        self._left: dict[str, int] = {}  # tokens to come
        self._adapters: set[str] = set()
        self._dropping: set[str] = set()
        self.ended = asyncio.create_task(self._live(), name=f"child-{pid}")

    # ------------------------------------------------------------ as the daemon sees it

    def send(self, command: Command) -> None:
        self._inbox.append(command)
        self._news.set()

    def kill(self, verdict: str) -> None:
        self._verdict = self._verdict or verdict
        self._killed.set()

    async def stop(self) -> Ending:
        self.send(Stop())
        await asyncio.wait({self.ended}, timeout=self._limits.stop_s)
        self.kill("did not stop when asked")
        return await self.ended

    # ------------------------------------------------------------ as the machine sees it

    def hang(self, seconds: float) -> None:
        """Do nothing for so long; be killed over it, as a silent process is."""
        self._going.clear()
        loop = asyncio.get_running_loop()
        if seconds < self._limits.silence_s:
            loop.call_later(seconds, self._going.set)
        else:
            loop.call_later(self._limits.silence_s, self.kill, "gave no sign of life")

    def held(self, device: str) -> int:
        """Bytes."""
        need = self._home.needs[self.model]
        if self.phase == "loading":
            return 0
        if self.phase != "asleep":
            return need.total if device == self._home.device else need.host
        if self._home.device == HOST:
            return need.weights + need.process
        return need.process if device == self._home.device else need.host + need.weights

    def _memory(self) -> MemoryUse:
        need = self._home.needs[self.model]
        if self.phase == "asleep":
            kept = need.weights + need.process
            return MemoryUse(weights=need.weights, process=need.process, measured=kept)
        return MemoryUse(**need.parts(), measured=need.total)

    # ------------------------------------------------------------ its life

    async def _live(self) -> Ending:
        work = asyncio.create_task(self._work())
        killed = asyncio.create_task(self._killed.wait())
        await asyncio.wait({work, killed}, return_when=asyncio.FIRST_COMPLETED)
        for task in (work, killed):
            task.cancel()
        await asyncio.wait({work, killed})
        del self._home.alive[self.pid]
        await self._home.up_to(0.3)
        if not work.cancelled():
            work.result()
        return Ending(self._verdict or "exited with status 1", "")

    async def _work(self) -> None:
        home = self._home
        await home.up_to(home.habits.load_s)
        await self._going.wait()
        if home.chance(home.habits.cannot_start):
            code = home.random.choice(("crashed", "out_of_memory", "bad_checkpoint"))
            self._tell([StartFailed(code, "The model cannot start")])
            return
        self.phase = "awake"
        self._tell([self._info()])
        while await self._turn():
            pass

    async def _turn(self) -> bool:
        """One step; False if it is the last one."""
        home = self._home
        if not self._running and not self._inbox and not self._dropping:
            self._news.clear()
            await self._news.wait()
        await home.up_to(home.habits.step_s)
        await self._going.wait()
        if home.chance(home.habits.dies):
            return False
        commands, self._inbox = self._inbox, []
        for command in commands:
            if isinstance(command, Stop):
                return False
            await self._obey(command)
        self._generate()
        self._forget_adapters()
        self._flush()
        return True

    def _flush(self) -> None:
        messages, self._outbox = self._outbox, []
        if messages:
            self._tell(messages)

    def _info(self) -> EngineInfo:
        return EngineInfo(
            engine="native",
            architecture="Fake",
            runner="native",
            vocab_size=256,
            max_model_len=1000,
            max_batch_size=BATCH,
            max_batch_tokens=100,
            block_size=16,
            num_blocks=10,
            dtype="float32",
            device=self._home.device,
            weight_bytes=1,
            kv_cache_bytes=1,
            load_s=0.1,
            memory=self._memory(),
            max_adapters=8,
            max_adapter_rank=8,
        )

    # ------------------------------------------------------------ what it is told

    async def _obey(self, command: Command) -> None:
        match command:
            case Submit():
                self._submit(command)
            case Abort(request_id):
                if self._running.pop(request_id, None) is not None:
                    self._outbox.append(Finish(request_id, "abort"))
            case LoadAdapter(adapter):
                await self._load(adapter)
            case DropAdapter(adapter):
                self._adapters.discard(adapter)
                self._dropping.add(adapter)
            case Sleep():
                await self._sleep()
            case Wake():
                await self._wake()
            case GetStats():
                running = min(BATCH, len(self._running))
                waiting = len(self._running) - running
                self._outbox.append(EngineStats(running=running, waiting=waiting))

    def _submit(self, submit: Submit) -> None:
        self._expect(self.phase == "awake", "a request")
        request_id = submit.request_id
        if submit.adapter and submit.adapter not in self._adapters:
            self._outbox.append(Fail(request_id, "invalid", "No such adapter", param="adapter"))
        elif self._home.chance(self._home.habits.refuses):
            self._outbox.append(Fail(request_id, "overloaded", "Too much to do"))
        else:
            self._running[request_id] = submit
            self._left[request_id] = submit.max_tokens

    async def _load(self, adapter: str) -> None:
        home = self._home
        await home.up_to(3 * home.habits.step_s)
        if home.chance(home.habits.cannot_load):
            self._outbox.append(AdapterFailed(adapter, "engine", "It cannot be read"))
        else:
            self._adapters.add(adapter)
            self._outbox.append(AdapterInfo(adapter, 4, 10, ("q_proj",)))

    async def _sleep(self) -> None:
        self._expect(self.phase == "awake" and not self._running, "to sleep")
        self._flush()
        await self._home.up_to(self._home.habits.sleep_s)
        self.phase = "asleep"
        self._outbox.append(Slept(self._memory()))

    async def _wake(self) -> None:
        self._expect(self.phase == "asleep", "to wake")
        self._flush()
        self.phase = "waking"
        await self._home.up_to(self._home.habits.wake_s)
        self.phase = "awake"
        self._outbox.append(Awake(self._memory()))

    def _expect(self, right: bool, what: str) -> None:
        if not right:
            wrong = f"{self.model} got {what} while {self.phase}, {len(self._running)} running"
            self._home.wrongs.append(wrong)

    # ------------------------------------------------------------ what it does

    def _generate(self) -> None:
        """A token more of each request in the batch."""
        for request_id, submit in list(self._running.items())[:BATCH]:
            self._outbox.append(Tokens(request_id, (token_of(submit.adapter),)))
            self._left[request_id] -= 1
            if not self._left[request_id]:
                del self._running[request_id]
                self._outbox.append(Finish(request_id, "length"))

    def _forget_adapters(self) -> None:
        used = {submit.adapter for submit in self._running.values()}
        for adapter in sorted(self._dropping - used):
            self._dropping.discard(adapter)
            self._outbox.append(AdapterDropped(adapter))
