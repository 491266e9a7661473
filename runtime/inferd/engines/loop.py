"""The loop that drives a core, wherever it runs: drain commands, step, hand on the events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable

from inferd.engines.base import Core
from inferd.engines.wire import Command, GetStats, Message, Stop
from inferd.messages import (
    Abort,
    AdapterFailed,
    DropAdapter,
    Event,
    Fail,
    LoadAdapter,
    Sleep,
    Submit,
    Wake,
)

_log = logging.getLogger("inferd.engines.loop")

Receive = Callable[[float | None], Collection[Command]]
"""All commands that wait. Where there is none, it waits for one: so many seconds, or for ever."""

REST_S = 0.05
"""Idle for so long, the core does what can wait: who asks again at once need not wait for it."""

QUIET_S = 1.0
"""Idle for so long after that, it checks its invariants."""


def run(core: Core, receive: Receive, send: Callable[[list[Message]], None]) -> None:
    """Turn until `Stop` arrives. One `send` per turn, with all that the turn produced.

    What escapes from `core.step`, `core.rest`, `core.check`, `core.sleep` or `core.wake` escapes
    from here: the core is then unfit to go on. What escapes from `core.submit` fails that request
    alone, and what escapes from `core.load_adapter` that adapter.
    """
    quiet = _Quiet(core)
    adapters = False  # whether there may be news of any
    while True:
        messages: list[Message] = []
        commands = receive(0.0 if core.busy else quiet.wait)
        for command in commands:
            if isinstance(command, Stop):
                return
            messages += _obey(core, command)
            quiet.note(command)
            adapters |= isinstance(command, LoadAdapter)
        if core.busy:
            messages += core.step()
        elif not commands:
            quiet.pass_by()
        if adapters:
            messages += core.adapter_news()
        if messages:
            send(messages)


class _Quiet:
    """What an idle core does: first what can wait, then its checks; then nothing, until it is told
    something that may have changed it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._rested = self._checked = True
        self.wait: float | None = None
        """Seconds without a command, after which it is time to `pass_by`."""

    def note(self, command: Command) -> None:
        if not isinstance(command, GetStats):
            self._rested = self._checked = isinstance(command, Sleep)  # checked before it slept
            self.wait = None if self._rested else REST_S

    def pass_by(self) -> None:
        """Nothing came for so long."""
        if not self._rested:
            self._rested = not self._core.rest()
            self.wait = QUIET_S if self._rested else 0.0
        elif not self._checked:
            self._core.check()
            self._checked, self.wait = True, None


def _obey(core: Core, command: Command) -> Iterable[Message]:
    if isinstance(command, Submit):
        return _submit(core, command)
    if isinstance(command, Abort):
        return core.abort(command.request_id)
    if isinstance(command, LoadAdapter):
        return _load_adapter(core, command)
    if isinstance(command, DropAdapter):
        core.drop_adapter(command.adapter)
        return []
    if isinstance(command, Sleep):
        core.check()  # now, since it is idle, rather than when it sleeps
        return [core.sleep()]
    return [core.wake() if isinstance(command, Wake) else core.stats()]


def _submit(core: Core, submit: Submit) -> list[Event]:
    try:
        return core.submit(submit)
    except Exception as error:
        _log.exception("submitting %s failed", submit.request_id)
        core.abort(submit.request_id)  # in case half of it was accepted
        message = "The engine failed on this request"
        return [Fail(submit.request_id, "engine", message, repr(error))]


def _load_adapter(core: Core, load: LoadAdapter) -> list[Message]:
    try:
        core.load_adapter(load)
        return []
    except Exception as error:
        _log.exception("loading adapter %s failed", load.adapter)
        core.drop_adapter(load.adapter)  # in case half of it was accepted
        message = "The engine failed on this adapter"
        return [AdapterFailed(load.adapter, "engine", message, repr(error))]
