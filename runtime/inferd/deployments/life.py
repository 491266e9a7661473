"""One deployment, from its creation to its end: the moves, and the work between them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from inferd.deployments.means import Adapters, Means, Now, Served
from inferd.deployments.records import Record
from inferd.deployments.spec import DeploySpec
from inferd.deployments.status import DeploymentStatus, Step
from inferd.engines.base import Progress
from inferd.errors import InferdError, StartError, Unavailable, told
from inferd.lifecycle import COMING, Failure, State
from inferd.messages import EngineInfo
from inferd.offload import in_thread
from inferd.registry import Deployment, Entry
from inferd.replicas.instances import Instances
from inferd.text.model import TextModel
from inferd.weights import ModelFolder, verify

_log = logging.getLogger("inferd.deployments")

_LOOK_S = 0.05  # between two looks at what still runs

Save = Callable[[Callable[[], Record]], Coroutine[Any, Any, None]]


class Life:
    """What one entry of the registry stands for.

    Args:
        save: makes its record durable; awaited after every move that a restart must know of.
        fixed: it comes from the command line.
        on_step: told how far a start has come.
    """

    def __init__(
        self,
        entry: Entry,
        spec: DeploySpec,
        means: Means,
        adapters: Adapters,
        save: Save,
        now: Now,
        *,
        fixed: bool = False,
        on_step: Callable[[Step], None] = lambda step: None,
        record: Record | None = None,
    ) -> None:
        self.entry = entry
        self.spec = spec
        self.fixed = fixed
        self.wanted: State = "running"
        self.created_at = self.updated_at = now()
        self.version = ""
        self._means = means
        self._adapters = adapters
        self._save = save
        self._now = now
        self._on_step = on_step
        self._folder: ModelFolder | None = None
        self._commit = spec.revision  # once fetched: that very commit, for good
        self._step: Step | None = None
        self._engine: Served | None = None
        self._coming: asyncio.Task[None] | None = None
        self._going: asyncio.Task[None] | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._error: StartError | None = None
        if record is not None:
            self._remember(record)

    # ------------------------------------------------------------ up

    def begin(self, token: str | None) -> None:
        """Come to run, or to fail; `outcome` waits for it."""
        assert self.entry.state == "initializing"
        self.wanted = "running"
        name = f"deploy-{self.entry.name}"
        self._coming = asyncio.create_task(self._come(token), name=name)

    @property
    def begun(self) -> bool:
        """Whether it has ever come to run, or tried to."""
        return self._coming is not None

    async def outcome(self) -> None:
        """Wait until it runs. Raises `StartError` where it does not."""
        assert self._coming is not None
        await asyncio.wait({self._coming})
        if self.entry.state != "running":
            raise self._error or StartError("stopped", "It was stopped while it started")

    async def save(self) -> None:
        """Make what it is now durable. Raises `StoreError`."""
        await self._save(self.record)

    async def again(self, token: str | None) -> None:
        """Start what is stopped or failed; what failed is fetched again, where it is damaged."""
        if self.entry.state == "failed":
            self._folder = None
        self._move("initializing")
        self.begin(token)
        await self._keep()

    async def _come(self, token: str | None) -> None:
        try:
            self._move("downloading")
            folder = self._folder = await self._fetch(token)
            self._commit = folder.revision or self.spec.revision
            self._move("deploying")
            text, self.version = await in_thread(lambda: self._means.read(self.spec, folder))
            await self._run(folder.path, text)
        except StartError as error:
            await self._failed(error)
        except Exception as error:
            shown = told(error, _log, f"{self.entry.name} did not start")
            await self._failed(StartError(shown.code or shown.type, shown.message))

    async def _fetch(self, token: str | None) -> ModelFolder:
        """The model's folder; what an earlier daemon fetched, if that is still whole."""
        known = self._folder
        if known is not None:
            try:
                await in_thread(lambda: verify(known.path))
            except (StartError, OSError) as error:
                _log.warning("%s is fetched again: %s", self.entry.name, error)
            else:
                return known
        fetch, model, revision = self._means.fetch, self.spec.model, self._commit
        if revision != self.spec.revision:  # the commit that was found takes the place of a branch
            model = model.partition("@")[0]
        unwanted = threading.Event()
        loop = asyncio.get_running_loop()

        def on_progress(done: int, total: int) -> None:
            if unwanted.is_set():
                raise StartError("stopped", "The download is not wanted any more")
            try:
                loop.call_soon_threadsafe(self._stepped, Step("download", done, total))
            except RuntimeError:  # the loop is closed
                unwanted.set()

        try:
            return await in_thread(lambda: fetch(model, revision, token, on_progress))
        finally:
            unwanted.set()

    async def _run(self, folder: Path, text: TextModel) -> None:
        engine = self._engine = await self._means.engine(self.spec, folder)
        info = await engine.start(self._progressed)
        deployment = Deployment(
            self.entry.name,
            engine,
            text,
            self.entry.created,
            self.entry.aliases,
            self.version,
            self.entry.deploy_id,
        )
        self.entry.deployment = deployment
        await self._adapters.attach(deployment)
        self._step = None
        self._move("running")
        _log.info("%s runs", self.entry.name, extra=asdict(info))
        await self._keep()

    def _progressed(self, progress: Progress) -> None:
        self._stepped(Step(progress.stage, progress.done, progress.total))

    def _stepped(self, step: Step) -> None:
        late = step.stage == "download" and self.entry.state != "downloading"
        if self.entry.state in COMING and not late:
            self._step = step
            self._on_step(step)

    async def _failed(self, error: StartError) -> None:
        """Give everything back, then be `failed`; unless it is going anyway."""
        _log.warning("%s failed: %s", self.entry.name, error)
        self._error, failure = error, Failure.of(error, self.entry.state)
        await self._release()
        if self.entry.state in (*COMING, "running"):
            self._move("failed", failure)
            await self._keep()

    async def look(self) -> None:
        """Notice an engine that has given up; one that found no room to wake tries again."""
        engine = self._engine
        if self.entry.state != "running" or engine is None:
            return
        if engine.state in ("failed", "closed"):
            reason = engine.reason
            if reason is None or reason.code != "out_of_memory":
                await self._failed(reason or StartError("crashed", "The model's process ended"))

    # ------------------------------------------------------------ down

    async def end(self, to: State, timeout: float) -> asyncio.Task[None] | None:
        """Take no requests from now on, let what runs finish for at most `timeout` seconds, and
        be `to`: `stopped`, or `deleted`, which wins over it. Durable once this returns; the task
        ends when it is so. None: nothing is left to do, or a later `again` wants otherwise."""
        before = self.wanted
        if before != "deleted":
            self.wanted = to
        try:
            await self._save(self.record)
        except InferdError:
            self.wanted = before
            raise
        if self._going is None and self.wanted not in ("running", self.entry.state):
            self._move("stopping")
            self._going = asyncio.create_task(self._go(timeout), name=f"stop-{self.entry.name}")
        return self._going

    async def _go(self, timeout: float) -> None:
        try:
            await self._stop_coming()
            await self._drained(timeout)
            await self._release()
            if self.wanted == "deleted":
                await self._adapters.forget(self.entry.name)
        finally:
            self._going = None
            self._move(self.wanted)

    async def _drained(self, timeout: float) -> None:
        """Until no stream is open."""
        try:
            async with asyncio.timeout(timeout):
                while self._is_used():  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            _log.warning("%s: ending what still runs after %g s", self.entry.name, timeout)

    def _is_used(self) -> bool:
        engine = self._engine
        return engine is not None and engine.in_flight + engine.num_open > 0

    async def close(self) -> None:
        """The daemon ends: end the engine at once. What is stored does not change."""
        if self.entry.state in (*COMING, "running"):
            self.entry.move("stopping")
        await self._stop_coming()
        await self._release()
        if self._keeping is not None:
            await asyncio.wait({self._keeping})

    async def _stop_coming(self) -> None:
        if self._coming is not None and not self._coming.done():
            self._coming.cancel()
            await asyncio.wait({self._coming})

    async def _release(self) -> None:
        """Give everything back; a cancellation does not, and twice is once."""
        if self._releasing is None:
            self._releasing = asyncio.create_task(self._give_back())
        await asyncio.shield(self._releasing)

    async def _give_back(self) -> None:
        self._step = None
        try:
            if self.entry.deployment is not None:
                await self._adapters.detach(self.entry.deployment)
            if self._engine is not None:
                await self._engine.close()
        except Exception as error:
            told(error, _log, f"{self.entry.name} did not end well")
        self.entry.deployment = self._engine = self._releasing = None

    async def _keep(self) -> None:
        """Save what has happened already; a database that fails is told in the log."""
        self._keeping = asyncio.create_task(self._save(self.record))
        try:
            await asyncio.shield(self._keeping)
        except InferdError as error:
            told(error, _log, f"{self.entry.name} could not be stored")

    # ------------------------------------------------------------ what is told and kept

    def limit(self, spec: DeploySpec) -> None:
        """Go on as `spec` says; it differs from the present one in what may change."""
        self.spec = spec
        self.entry.replaced_by = spec.replaced_by
        self.updated_at = self._now()
        if self._engine is not None:
            self._engine.set_limits(spec.min_instances, spec.max_instances)

    def status(self) -> DeploymentStatus:
        engine = self._engine
        return DeploymentStatus(
            deploy_id=self.entry.deploy_id,
            model_name=self.entry.name,
            aliases=self.entry.aliases,
            version=self.version,
            state=self.entry.state,
            failure=self.entry.failure,
            created_at=self.created_at,
            updated_at=self.updated_at,
            instances=Instances() if engine is None else engine.instances,
            in_flight=0 if engine is None else engine.in_flight,
            asleep=engine is not None and engine.state == "asleep",
            step=self._step,
            spec=self.spec,
            engine=_info(engine),
            fixed=self.fixed,
        )

    def record(self) -> Record:
        folder = self._folder
        return Record(
            deploy_id=self.entry.deploy_id,
            spec=self.spec,
            state="failed" if self._has_failed else self.wanted,
            created_at=self.created_at,
            updated_at=self.updated_at,
            failure=self.entry.failure,
            version=self.version,
            folder="" if folder is None or folder.revision is None else str(folder.path),
            commit=self._commit,
        )

    @property
    def _has_failed(self) -> bool:
        return self.entry.state == "failed" and self.wanted == "running"

    def _remember(self, record: Record) -> None:
        self.wanted = record.state
        self.created_at, self.updated_at = record.created_at, record.updated_at
        self.version = record.version
        self.entry.failure = record.failure
        self._commit = record.commit
        if record.folder:
            self._folder = ModelFolder(Path(record.folder), record.spec.model, record.commit)

    def _move(self, state: State, failure: Failure | None = None) -> None:
        self.updated_at = self._now()
        self.entry.move(state, failure)


def _info(engine: Served | None) -> EngineInfo | None:
    if engine is None:
        return None
    try:
        return engine.info
    except Unavailable:
        return None
