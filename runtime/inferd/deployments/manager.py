"""All deployments: what callers may do to them, and what a restart finds."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Collection

from msgspec.structs import replace

from inferd.deployments.life import Life, Save
from inferd.deployments.means import Adapters, Means, Now
from inferd.deployments.records import Record, Records
from inferd.deployments.spec import DeploySpec, check_instances, check_spec
from inferd.deployments.status import DeploymentStatus, StatsPoint, Step
from inferd.errors import Conflict, InvalidRequest, NotFound, Unavailable, told
from inferd.lifecycle import COMING, Failure, State
from inferd.registry import Entry, Registry, id_of
from inferd.sources import PathPolicy, check_path, is_path
from inferd.store import Table
from inferd.tally import MINUTE, Tally

DRAIN_S = 60.0  # what runs may take to end when its deployment is stopped or deleted
KEPT_DELETED = 50  # newest deleted ones that are still told of
LOOK_S = 1.0  # between two looks at engines that may have given up

_log = logging.getLogger("inferd.deployments")


class Deployments:
    """The deployments of this daemon. All methods are called in one event loop.

    Ids are those of the deployments, without `deploy_id:`. Unknown ones raise `NotFound`.

    Args:
        paths: which local folders callers may name.
        new_id: 16 characters.
    """

    def __init__(
        self,
        registry: Registry,
        means: Means,
        adapters: Adapters,
        table: Table[Record],
        tally: Tally,
        *,
        paths: PathPolicy = PathPolicy(),  # noqa: B008 (frozen)
        drain_s: float = DRAIN_S,
        now: Now = time.time,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._registry = registry
        self._means = means
        self._adapters = adapters
        self._records = Records(table)
        self._tally = tally
        self._paths = paths
        self._drain_s = drain_s
        self._now = now
        self._new_id = new_id
        self._lives: dict[str, Life] = {}  # in the order of creation, the deleted ones included
        self._ends: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    # ------------------------------------------------------------ changes

    async def create(self, spec: DeploySpec, token: str | None = None) -> DeploymentStatus:
        """Begin to deploy `spec`; returns when that is durable. `token` is the hub's, for this
        once, and stored nowhere.

        Raises:
            InvalidRequest, Forbidden: names the field.
            Conflict: the name is taken.
            Unavailable: the daemon ends.
        """
        self._check_open()
        check_spec(spec)
        if is_path(spec.model):
            folder = check_path(spec.model, self._paths, param="model")
            spec = replace(spec, model=str(folder))
        for name in (spec.model_name, *spec.aliases):
            if self._adapters.find(name) is not None:
                raise Conflict(f"An adapter is already called `{name}`", param="model_name")
        self._check_replacement(spec.model_name, spec.replaced_by)
        life = self._life(spec, self._new_id(), self._records.put)
        self._registry.enter(life.entry)
        try:
            await life.save()
        except BaseException:
            self._registry.remove(life.entry)
            raise
        self._lives[life.entry.deploy_id] = life
        life.begin(token)
        return life.status()

    async def serve(self, spec: DeploySpec, on_step: Callable[[Step], None]) -> Life:
        """Deploy what the command line names; it is stored nowhere, and has the same id each
        time. Its first start has begun; requests that come before its end are told to come
        back."""
        deploy_id = id_of(spec.model_name, f"{spec.model}@{spec.revision or ''}")
        life = self._life(spec, deploy_id, _unstored, fixed=True, on_step=on_step)
        self._registry.enter(life.entry)
        self._lives[deploy_id] = life
        life.begin(None)
        return life

    async def update(
        self,
        deploy_id: str,
        *,
        min_instances: int | None = None,
        max_instances: int | None = None,
        replaced_by: str | None = None,
    ) -> DeploymentStatus:
        """Change what is not None. Raises `InvalidRequest`."""
        life = self._known(deploy_id)
        spec = life.spec
        least = spec.min_instances if min_instances is None else min_instances
        most = spec.max_instances if max_instances is None else max_instances
        check_instances(least, most)
        by = spec.replaced_by if replaced_by is None else replaced_by
        self._check_replacement(spec.model_name, by)
        life.limit(replace(spec, min_instances=least, max_instances=most, replaced_by=by))
        await life.save()
        return life.status()

    async def start(self, deploy_id: str, token: str | None = None) -> DeploymentStatus:
        """Start what is stopped or failed; what runs, or comes to run, goes on.

        Raises:
            Conflict: it is stopping.
        """
        self._check_open()
        life = self._known(deploy_id)
        if life.entry.state in ("stopped", "failed"):
            if life.entry not in self._registry.entries():  # its name was taken
                self._registry.enter(life.entry)
            await life.again(token)
        elif life.entry.state not in (*COMING, "running"):
            raise Conflict(f"The deployment {deploy_id} is {life.entry.state}")
        return life.status()

    async def stop(self, deploy_id: str, *, wait: bool = False) -> DeploymentStatus:
        """Take no more requests, let what runs finish, give the memory back.

        Args:
            wait: return when all of that is done, rather than when it has begun.
        """
        life = self._known(deploy_id)
        if life.entry.state != "stopped":
            await self._end(life, "stopped", wait=wait)
        return life.status()

    async def delete(self, deploy_id: str, *, wait: bool = False) -> DeploymentStatus:
        """As `stop`, and for good: its name is free as soon as nothing of it runs.

        Raises:
            Conflict: it comes from the command line.
        """
        life = self._known(deploy_id)
        if life.fixed:
            raise Conflict(
                f"The deployment {deploy_id} comes from the command line; it can only be stopped"
            )
        await self._end(life, "deleted", wait=wait)
        await self._forget_old()
        return life.status()

    # ------------------------------------------------------------ look-ups

    def get(self, deploy_id: str) -> DeploymentStatus:
        """Also of one that was deleted lately."""
        life = self._lives.get(deploy_id)
        if life is None:
            raise NotFound(f"There is no deployment {deploy_id[:64]}", param="deploy_id")
        return life.status()

    def list(self, statuses: Collection[str] | None = None) -> tuple[DeploymentStatus, ...]:
        """Those in one of `statuses`, oldest first. None: all that were not deleted."""
        found = (life.status() for life in self._lives.values())
        if statuses is None:
            return tuple(each for each in found if each.state != "deleted")
        return tuple(each for each in found if each.state in statuses)

    def stats(self, deploy_id: str, since: float, until: float) -> tuple[StatsPoint, ...]:
        """What happened in each minute of [since, until), Unix times in seconds; minutes in which
        nothing did are left out. Of the last day, and since the daemon started."""
        status = self.get(deploy_id)
        since = max(since, status.created_at - MINUTE)  # its name may have been another's before
        return tuple(
            StatsPoint(minute, c.requests, c.errors, c.prompt_tokens, c.completion_tokens)
            for minute, c in self._tally.read(status.model_name, since, until)
        )

    # ------------------------------------------------------------ the daemon's start and end

    def restore(self) -> None:
        """Know again what an earlier daemon had; what ran waits for `resume`. Blocks while it
        reads.

        Raises:
            StoreError: a record is damaged.
        """
        found = sorted(self._records.all().values(), key=lambda each: each.created_at)
        for record in found:
            self._lives[record.deploy_id] = self._restored(record)

    def resume(self) -> None:
        """What ran comes to run; from now on, engines that give up are noticed."""
        for life in self._lives.values():
            if life.entry.state == "initializing" and not life.begun:
                life.begin(None)
        assert self._watch is None
        self._watch = asyncio.create_task(self._look(), name="deployments")

    async def close(self) -> None:
        """End all engines at once; a later daemon finds the deployments as they are wanted."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        await asyncio.gather(*(life.close() for life in self._lives.values()))
        if self._ends:
            await asyncio.wait(self._ends)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for life in list(self._lives.values()):
                try:
                    await life.look()
                except Exception as error:
                    told(error, _log, f"looking after {life.entry.name} failed")

    # ------------------------------------------------------------ inner

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("The server is shutting down")

    def _known(self, deploy_id: str) -> Life:
        life = self._lives.get(deploy_id)
        if life is None or life.wanted == "deleted":
            raise NotFound(f"There is no deployment {deploy_id[:64]}", param="deploy_id")
        return life

    def _life(
        self,
        spec: DeploySpec,
        deploy_id: str,
        save: Save,
        *,
        state: State = "initializing",
        fixed: bool = False,
        on_step: Callable[[Step], None] = lambda step: None,
        record: Record | None = None,
    ) -> Life:
        entry = Entry(
            spec.model_name,
            deploy_id,
            int(self._now() if record is None else record.created_at),
            aliases=spec.aliases,
            state=state,
            replaced_by=spec.replaced_by,
            required=fixed,
        )
        return Life(
            entry,
            spec,
            self._means,
            self._adapters,
            save,
            self._now,
            fixed=fixed,
            on_step=on_step,
            record=record,
        )

    def _restored(self, record: Record) -> Life:
        state: State = "initializing" if record.state == "running" else record.state
        life = self._life(
            record.spec, record.deploy_id, self._records.put, state=state, record=record
        )
        if state == "deleted":
            return life
        try:
            self._registry.enter(life.entry)
        except Conflict as error:
            _log.warning("the deployment %s is not served: %s", record.deploy_id, error)
            failure = Failure("conflict", error.message, "Delete it, or serve the other one apart.")
            if life.entry.state == "stopped":
                life.entry.move("initializing")
            if life.entry.state == "initializing":
                life.entry.move("failed", failure)
        return life

    async def _end(self, life: Life, to: State, *, wait: bool) -> None:
        task = await life.end(to, self._drain_s)
        if task is None:
            return
        if task not in self._ends:
            self._ends.add(task)
            task.add_done_callback(lambda done: self._ended(life, done))
        if wait:
            await asyncio.shield(task)

    def _ended(self, life: Life, task: asyncio.Task[None]) -> None:
        self._ends.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            told(error, _log, f"{life.entry.name} did not end well")
        if life.entry.state == "deleted" and life.entry in self._registry.entries():
            self._registry.remove(life.entry)

    async def _forget_old(self) -> None:
        deleted = [key for key, life in self._lives.items() if life.entry.state == "deleted"]
        for key in deleted[:-KEPT_DELETED]:
            del self._lives[key]
            await self._records.delete(key)

    def _check_replacement(self, name: str, by: str) -> None:
        """Raises `InvalidRequest` if requests for `name` would go round in circles."""
        if by and any(each.name == name for each in self._registry.chain(by)):
            raise InvalidRequest(f"replaced_by: `{by}` leads back to `{name}`", "replaced_by")


async def _unstored(latest: Callable[[], Record]) -> None:
    """What comes from the command line comes from there again."""
