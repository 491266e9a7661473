"""The one path that every front end takes: a request in text in, text out."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from anyio import CancelScope
from msgspec import structs

from inferd.adapters.entry import Lease
from inferd.adapters.table import Adapters
from inferd.admission import Admission
from inferd.errors import Unavailable
from inferd.generation import Generation
from inferd.messages import Caller, Generate, Output, Submit
from inferd.metrics import Metrics, RequestMetrics
from inferd.registry import Deployment, Registry
from inferd.text import tokens
from inferd.text.prompt import Prepared, prepare
from inferd.text.sampling import check_counts, choice_seed

DEPLOY_WAIT_S = 600.0  # as long as OpenAI's client waits for a reply


@dataclass(frozen=True)
class _Target:
    """What answers a request."""

    deployment: Deployment
    lease: Lease | None = None  # of an adapter's generation
    served_by: str = ""  # a deprecated model's replacement


class Service:
    """Turns a `Generate` into a stream of `Output`.

    Args:
        adapters: names that requests may give as `model`, beside the registry's.
        deploy_wait: seconds that a request waits for a model that is being deployed.
        clock: seconds, monotonic.
        entropy: a fresh seed in [0, 2**64) for requests that name none.
    """

    def __init__(
        self,
        registry: Registry,
        admission: Admission,
        metrics: Metrics,
        *,
        adapters: Adapters | None = None,
        deploy_wait: float = DEPLOY_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
        entropy: Callable[[], int] = lambda: secrets.randbits(64),
    ) -> None:
        self.registry = registry
        self.admission = admission
        self.metrics = metrics
        self.adapters = adapters
        self._deploy_wait = deploy_wait
        self._clock = clock
        self._entropy = entropy
        self._serial = itertools.count()
        metrics.watch(registry.engines)
        if adapters is not None:
            metrics.watch_adapters(adapters.list)

    @asynccontextmanager
    async def stream(
        self, request: Generate, caller: Caller, *, request_id: str
    ) -> AsyncIterator[AsyncIterator[Output]]:
        """Check and submit on entering; then iterate: one `Start`, then per choice (interleaved,
        told apart by `index`) at most one `Prompt`, any number of `Chunk`, exactly one `Done`;
        last of all one `Usage`.

        `Start` comes with the model's first reply, not before: whatever is raised on entering or
        in place of `Start` was refused as a whole (send its status); whatever is raised after
        `Start` ends an answer that has begun (send it as an event). Nothing follows an error.

        Leaving, however it happens (also by cancellation, also half-way), aborts what still runs
        and returns the permit and the adapter's lease. Iterate in the task that entered, and
        leave in it.

        Raises:
            CallerError: the request is at fault.
            BusyError, Unavailable: not now.
            EngineError, EngineDead: the model failed on it.
        """
        with ExitStack() as held:
            generation, metrics = await self._accept(held, request, caller, request_id)
            outputs = generation.outputs()
            reason = "abandoned"
            try:
                yield outputs
            except asyncio.CancelledError:
                reason = "cancelled"
                raise
            finally:
                with CancelScope(shield=True):
                    await outputs.aclose()
                    await generation.close()
                if not generation.over:
                    metrics.left(reason)

    async def _accept(
        self, held: ExitStack, request: Generate, caller: Caller, request_id: str
    ) -> tuple[Generation, RequestMetrics]:
        """Everything up to the submission; `held` gets the permit and the lease."""
        began = self._clock()
        try:
            check_counts(request)  # first, since `n` decides what the permit counts
            held.enter_context(self.admission.permit(request.n))
            target = await self._target(held, request.model)
            deployment, lease = target.deployment, target.lease
            prepared = await self._prepare(request, deployment)
            metrics = RequestMetrics(
                self.metrics,
                deployment.name,
                self._clock,
                began,
                adapter=lease.adapter if lease is not None else "",
            )
            adapter = lease.generation if lease is not None else ""
            generation = Generation(
                deployment.engine,
                deployment.text,
                request,
                prepared,
                self._submits(request, prepared, caller, request_id, adapter),
                metrics,
                lease=lease,
                served_by=target.served_by,
            )
            await generation.begin()
        except Exception as error:
            self.metrics.failed(error)
            raise
        return generation, metrics

    async def prepare(self, request: Generate) -> Prepared:
        """What would be submitted for `request`, with everything checked; nothing runs.

        Raises:
            CallerError: the request is at fault.
            BusyError, Unavailable: not now.
        """
        check_counts(request)
        with self.admission.permit():
            return await self._prepare(request, await self._deployment(request.model))

    async def tokenize(
        self, model: str, text: str, *, add_special_tokens: bool | None = None
    ) -> tuple[int, ...]:
        """The token ids of `text`.

        Args:
            add_special_tokens: a BOS where the model wants one; None: as a plain prompt gets it,
                which is unless `text` begins with it.

        Raises:
            InvalidRequest: names `text`.
            NotFound, BusyError, Unavailable: as for `stream`.
        """
        with self.admission.permit():
            tokenizer = (await self._deployment(model)).text.tokenizer
            return await tokens.tokenize(tokenizer, text, add_special_tokens=add_special_tokens)

    async def token_strings(self, model: str, token_ids: Sequence[int]) -> tuple[str, ...]:
        """The tokens, which `tokenize` gave, as the vocabulary writes them (`Ġworld`)."""
        tokenizer = (await self._deployment(model)).text.tokenizer
        return await tokens.token_strings(tokenizer, token_ids)

    async def detokenize(self, model: str, token_ids: Sequence[int]) -> str:
        """The text of `token_ids`, special tokens among it.

        Raises:
            InvalidRequest: names `token_ids`.
            NotFound, BusyError, Unavailable: as for `stream`.
        """
        with self.admission.permit():
            tokenizer = (await self._deployment(model)).text.tokenizer
            return await tokens.detokenize(tokenizer, token_ids)

    async def _target(self, held: ExitStack, model: str) -> _Target:
        """What answers for `model`: an adapter, whose lease `held` gets, or a deployment; waits
        for one that is being deployed.

        Raises:
            NotFound, Unavailable
        """
        adapters = self.adapters
        named = adapters.parse(model) if adapters is not None else None
        if adapters is None or named is None:
            deployment = await self.registry.await_ready(model, self._deploy_wait)
            return _Target(deployment, served_by=self.registry.replacement(model))
        name, version = named
        deployment = await self._base(adapters, name)
        lease = adapters.pin(name, version=version)
        held.callback(lease.release)
        if lease.engine is not deployment.engine:
            raise Unavailable(f"The adapter `{name}` is being moved to another model")
        return _Target(deployment, lease)

    async def _deployment(self, model: str) -> Deployment:
        """The deployment that answers for `model`; an adapter's base. Raises as `_target`."""
        adapters = self.adapters
        named = adapters.parse(model) if adapters is not None else None
        if adapters is None or named is None:
            return await self.registry.await_ready(model, self._deploy_wait)
        return await self._base(adapters, named[0])

    async def _base(self, adapters: Adapters, name: str) -> Deployment:
        """The deployment that the adapter `name` belongs to. One that was replaced has no
        adapters any more."""
        base = adapters.base_of(name)
        deployment = await self.registry.await_ready(base, self._deploy_wait)
        if deployment.name != base:
            raise Unavailable(f"The adapter `{name}` belongs to `{base}`, which was replaced")
        return deployment

    async def _prepare(self, request: Generate, deployment: Deployment) -> Prepared:
        info = deployment.engine.info
        return await prepare(
            request,
            deployment.text,
            max_model_len=info.max_model_len,
            vocab_size=info.vocab_size,
            seed=self._entropy(),
        )

    def _submits(
        self,
        request: Generate,
        prepared: Prepared,
        caller: Caller,
        request_id: str,
        adapter: str,
    ) -> list[Submit]:
        """One per choice. Engine ids carry a serial number: a client may repeat its own."""
        serial = next(self._serial)
        salt = f"{caller.name}\0{request.cache_salt}" if request.cache_salt else ""
        return [
            Submit(
                request_id=f"{request_id}.{serial}-{index}",
                prompt=prepared.prompt,
                max_tokens=max(prepared.max_tokens, 1),
                sampling=structs.replace(
                    prepared.sampling,
                    seed=choice_seed(prepared.sampling.seed, index),
                    prompt_logprobs=None if index else prepared.sampling.prompt_logprobs,
                ),
                caller=caller.name,
                priority=request.priority,
                cache_salt=salt,
                grammar=prepared.grammar,
                adapter=adapter,
            )
            for index in range(request.n)
        ]
