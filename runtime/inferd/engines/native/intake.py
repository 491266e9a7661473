"""The way of requests to the scheduler: some wait for a grammar, some for an adapter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from msgspec import Struct

from inferd.engines.native.adapters.table import Adapters
from inferd.engines.native.constraint import Constraint
from inferd.engines.native.grammars import Grammars
from inferd.engines.native.pending import Pending, PendingRequests
from inferd.errors import BusyError, EngineError, InferdError, InvalidRequest
from inferd.messages import Event, Fail, Submit
from inferd_scheduler import Request

PENDING_WAIT_S = 0.01  # so late may a command be seen while nothing but other threads work
COMPILE_S = 30.0  # beside a busy machine's other work; the limits allow a second by itself

_log = logging.getLogger("inferd.engines.native")


class Arrival(Struct, frozen=True):
    """A request that may go to the scheduler."""

    submit: Submit
    submitted: float  # seconds
    constraint: Constraint | None


class Intake:
    """Requests that the scheduler has not got yet.

    Args:
        grammars: compiles them; without it they are refused.
        limit: so many may wait at most.
    """

    def __init__(
        self,
        grammars: Grammars | None,
        adapters: Adapters,
        clock: Callable[[], float],
        limit: int,
    ) -> None:
        self._grammars = grammars
        self._adapters = adapters
        self._clock = clock
        self._limit = limit
        self._pending = PendingRequests()

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._pending

    def __iter__(self) -> Iterator[str]:
        return iter(self._pending)

    def add(self, submit: Submit) -> Arrival | None:
        """Take a request in; None if it has to wait. Raises InvalidRequest and BusyError."""
        adapter, now = submit.adapter, self._clock()
        if adapter:
            self._adapters.check_known(adapter)
        if submit.grammar and self._grammars is None:
            raise InvalidRequest("this engine has no tokenizer, which grammars need", "grammar")
        here = not adapter or self._adapters.ready(adapter)
        if here and not submit.grammar:
            return Arrival(submit, now, None)
        if len(self._pending) >= self._limit:
            raise BusyError(f"{len(self._pending)} requests wait for grammars and adapters")
        compiled = None
        if submit.grammar and self._grammars is not None:
            compiled = self._grammars.compile(submit.grammar)
        self._pending.add(Pending(submit, compiled, now))
        if adapter:
            self._adapters.wait_for(adapter)
        return None

    def remove(self, request_id: str) -> bool:
        """Forget a request; whether it was here."""
        pending = self._pending.remove(request_id)
        if pending is not None and pending.submit.adapter:
            self._adapters.give_up(pending.submit.adapter)
        return pending is not None

    def take(self, begin: Callable[[Arrival], list[Event]], *, idle: bool) -> list[Event]:
        """Let those begin that need not wait any longer, and tell what comes of that.

        `idle`: there is no other work, so that it may wait a little for the threads.
        """
        self._adapters.poll()
        reading = self._adapters.reading
        if idle and (self._pending or reading is not None):
            self._pending.wait(PENDING_WAIT_S, () if reading is None else (reading,))
            self._adapters.poll()
        events: list[Event] = []
        for pending in self._pending.take(self._goes_on):
            submit = pending.submit
            try:
                events += begin(self._arrive(pending))
            except InferdError as error:
                events.append(fail_of(submit.request_id, error))
            finally:
                if submit.adapter:
                    self._adapters.give_up(submit.adapter)
        self._adapters.read_next()
        return events

    def adapters(self) -> list[str]:
        """One for each request that has one."""
        return self._pending.adapters()

    def close(self) -> None:
        if self._grammars is not None:
            self._grammars.close()

    def forget_grammar(self, grammar: str) -> None:
        """Compile it anew for the next who asks."""
        if self._grammars is not None:
            self._grammars.forget(grammar)

    def _goes_on(self, pending: Pending) -> bool:
        """Whether it need not wait any longer, or must not."""
        if pending.compiled is not None and not pending.compiled.done():
            return pending.submitted < self._clock() - COMPILE_S
        try:
            return not pending.submit.adapter or self._adapters.ready(pending.submit.adapter)
        except InferdError:
            return True

    def _arrive(self, pending: Pending) -> Arrival:
        """Raises what it failed on."""
        submit, constraint = pending.submit, None
        if submit.adapter:
            self._adapters.ready(submit.adapter)  # raises
        if pending.compiled is not None:
            constraint = self._constrain(pending)
        return Arrival(submit, pending.submitted, constraint)

    def _constrain(self, pending: Pending) -> Constraint:
        submit = pending.submit
        assert pending.compiled is not None
        if not pending.compiled.done():
            message = f"the grammar took more than {COMPILE_S:.0f} s to compile"
            raise InvalidRequest(message, "grammar")
        try:
            compiled = pending.compiled.result()
            return compiled.begin(submit.sampling.stop_token_ids, submit.output)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, "grammar") from None
        except Exception as error:
            _log.exception("compiling the grammar of %s failed", submit.request_id)
            message = "The engine failed on this request's grammar"
            raise EngineError(message, log=repr(error)) from error


def to_request(submit: Submit) -> Request:
    """The scheduler's view of a sequence."""
    sampling = submit.sampling
    return Request(
        submit.request_id,
        submit.prompt,
        submit.max_tokens,
        output=submit.output,
        stop_token_ids=sampling.stop_token_ids,
        caller=submit.caller,
        priority=submit.priority,
        salt=submit.cache_salt,
        adapter=submit.adapter,
        reuse_prefix=sampling.prompt_logprobs is None,  # a cached position has no logits
        min_tokens=sampling.min_tokens,
    )


def fail_of(request_id: str, error: InferdError) -> Fail:
    """What ends a request that did not begin."""
    if isinstance(error, InvalidRequest):
        return Fail(request_id, "invalid", error.message, param=error.param or "")
    if isinstance(error, BusyError):
        return Fail(request_id, "overloaded", error.message)
    return Fail(request_id, "engine", error.message, str(error))
