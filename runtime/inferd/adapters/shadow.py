"""Comparing a candidate with the current generation on live requests, beside them.

A request that ended well is scored again under both generations, teacher-forced: its prompt and
its reply's tokens are given as a prompt whose logprobs are asked for. That happens after the
reply, one request at a time and at the lowest priority; what does not fit the queue is dropped.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from inferd.adapters.holdings import Holdings
from inferd.adapters.records import ShadowReport, Trial
from inferd.adapters.share import Share
from inferd.engines.base import Engine, is_terminal
from inferd.errors import EngineError, InferdError
from inferd.messages import Fail, PromptScored, Sampling, Submit

QUEUE_REQUESTS = 32
QUEUE_TOKENS = 1 << 17
_LOWEST = 2**31 - 1  # priority
_CALLER = "inferd:shadow"

_log = logging.getLogger("inferd.adapters")
_serial = itertools.count()


@dataclass(frozen=True)
class _Job:
    """One finished request. Its generations are held until it is scored or dropped."""

    holdings: Holdings
    served: str
    prompt: tuple[int, ...]
    output: tuple[int, ...]
    salt: str

    @property
    def tokens(self) -> int:
        return len(self.prompt) + len(self.output)


class Shadow:
    """One candidate's comparison, until `close`.

    Args:
        trial: the candidate, and the share of the current generation's requests to score.
        current: what it is compared with.
    """

    def __init__(self, trial: Trial, current: str) -> None:
        self.trial = trial
        self._current = current
        self._share = Share(trial.percent)
        self._queue: deque[_Job] = deque()
        self._scoring: _Job | None = None
        self._worker: asyncio.Task[None] | None = None
        self._requests = self._tokens = self._dropped = self._failed = 0
        self._sum = self._sum_abs = self._max_abs = 0.0

    def wants(self, generation: str) -> bool:
        """Whether a request that runs with `generation` is to be scored; asked once for each."""
        return generation == self._current and self._share.next()

    def offer(
        self,
        holdings: Holdings,
        generation: str,
        prompt: tuple[int, ...],
        output: tuple[int, ...],
        salt: str,
    ) -> None:
        """Score a finished request, unless too much waits already."""
        if not output:
            return
        job = _Job(holdings, generation, prompt, output, salt)
        waiting = sum(each.tokens for each in self._queue)
        if len(self._queue) >= QUEUE_REQUESTS or waiting + job.tokens > QUEUE_TOKENS:
            self._dropped += 1
            return
        for each in (generation, self.trial.generation):
            holdings.hold(each)
        self._queue.append(job)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def close(self) -> None:
        """End the comparison; what waits is forgotten, what is being scored is aborted."""
        if self._worker is not None:
            self._worker.cancel()
        self._scored()
        while self._queue:
            self._let_go(self._queue.popleft())

    async def idle(self) -> None:
        """Wait until nothing is left to score."""
        while (worker := self._worker) is not None and not worker.done():
            await asyncio.wait({worker})

    def report(self) -> ShadowReport:
        tokens = max(self._tokens, 1)
        return ShadowReport(
            self.trial.generation,
            self.trial.percent,
            requests=self._requests,
            tokens=self._tokens,
            mean_abs=self._sum_abs / tokens,
            max_abs=self._max_abs,
            mean=self._sum / tokens,
            dropped=self._dropped,
            failed=self._failed,
        )

    async def _work(self) -> None:
        try:
            while self._queue:
                job = self._scoring = self._queue.popleft()
                try:
                    await self._score(job)
                except InferdError as error:
                    self._failed += 1
                    _log.info("a shadow request was not scored: %s", error)
                finally:
                    self._scored()
        finally:
            self._worker = None

    async def _score(self, job: _Job) -> None:
        engine = job.holdings.engine
        served = await _logprobs(engine, job, job.served)
        candidate = await _logprobs(engine, job, self.trial.generation)
        changes = [b - a for a, b in zip(served, candidate, strict=True)]
        self._requests += 1
        self._tokens += len(changes)
        self._sum += sum(changes)
        self._sum_abs += sum(map(abs, changes))
        self._max_abs = max(self._max_abs, *map(abs, changes))

    def _scored(self) -> None:
        job, self._scoring = self._scoring, None
        if job is not None:
            self._let_go(job)

    def _let_go(self, job: _Job) -> None:
        for each in (job.served, self.trial.generation):
            job.holdings.release(each)


async def _logprobs(engine: Engine, job: _Job, generation: str) -> Sequence[float]:
    """Each output token's logprob under `generation`, given what stands before it. The last is
    left out where the context has no room for a token after it. Raises `InferdError`."""
    room = engine.info.max_model_len - 1
    tokens = (job.prompt + job.output)[:room]
    submit = Submit(
        request_id=f"shadow-{next(_serial)}",
        prompt=tokens,
        max_tokens=1,
        sampling=Sampling(temperature=0.0, prompt_logprobs=0),
        caller=_CALLER,
        priority=_LOWEST,
        cache_salt=job.salt,
        adapter=generation,
    )
    scored: Sequence[float] = ()
    async with engine.stream(submit) as events:
        async for event in events:
            if isinstance(event, PromptScored):
                scored = [each.logprob for each in event.logprobs[len(job.prompt) - 1 :]]
            elif isinstance(event, Fail):
                raise EngineError(event.message, log=event.log)
            if is_terminal(event):
                break
    if not scored:
        raise EngineError(log="the engine scored nothing")
    return scored
