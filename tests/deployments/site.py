"""Deployments over echo engines in this process, and a model that comes when a test lets it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferd import demo
from inferd.deployments import Deployments, DeploymentStatus, DeploySpec, Record, Served
from inferd.engines import echo
from inferd.engines.base import EngineSpec
from inferd.engines.local import LocalEngine
from inferd.errors import StartError
from inferd.hub import OnProgress
from inferd.ledger import Ledger, Need
from inferd.lifecycle import State
from inferd.registry import Deployment, Registry
from inferd.replicas.replica_set import ReplicaSet
from inferd.residency import Residency
from inferd.sources import PathPolicy
from inferd.store import Store, Table
from inferd.tally import Tally
from inferd.text.model import TextModel
from inferd.weights import ModelFolder
from tests.serving import TEXT, TOKENIZER

COMMIT = "c0ffee" * 6 + "abcd"
FOLDER = demo.path()


class Gate:
    """A blocking step that a test holds up, or makes fail."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()
        self.error: Exception | None = None

    def pass_(self) -> None:
        self.reached.set()
        assert self.open.wait(30)
        if self.error is not None:
            raise self.error


@dataclass
class Models:
    """The means: a hub with one model, and echo engines.

    Attributes:
        fetched: (model, revision, token) of each fetch.
        options: the echo engines', like `delay=0.1`.
        need: bytes that an engine takes.
    """

    ledger: Ledger
    fetching: Gate = field(default_factory=Gate)
    reading: Gate = field(default_factory=Gate)
    fetched: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    options: str = ""
    need: int = 1

    def __post_init__(self) -> None:
        self._room = Residency(self.ledger)

    def fetch(
        self, model: str, revision: str | None, token: str | None, on_progress: OnProgress
    ) -> ModelFolder:
        self.fetched.append((model, revision, token))
        try:
            on_progress(5, 10)
            self.fetching.pass_()
            on_progress(10, 10)
        except StartError:
            self.stopped.set()
            raise
        return ModelFolder(FOLDER, model, COMMIT)

    def read(self, spec: DeploySpec, folder: ModelFolder) -> tuple[TextModel, str]:
        self.reading.pass_()
        return TEXT, folder.revision or ""

    async def engine(self, spec: DeploySpec, folder: Path) -> Served:
        options = f"echo:vocab_size={TOKENIZER.vocab_size},{self.options}"
        return ReplicaSet(
            EngineSpec(engine="echo", model=options.rstrip(",")),
            self._room,
            name=spec.model_name,
            need=Need(weights=self.need),
            min_instances=spec.min_instances,
            max_instances=spec.max_instances,
            make=lambda each: LocalEngine(echo.create, each),
        )


class NoAdapters:
    """Notes what it is told.

    Attributes:
        told: like `attach name`.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.names: set[str] = set()

    async def attach(self, deployment: Deployment) -> None:
        self.told.append(f"attach {deployment.name}")

    async def detach(self, deployment: Deployment) -> None:
        self.told.append(f"detach {deployment.name}")

    async def forget(self, base: str) -> None:
        self.told.append(f"forget {base}")

    def find(self, name: str) -> object | None:
        return name if name in self.names else None


@dataclass
class Site:
    deployments: Deployments
    registry: Registry
    models: Models
    adapters: NoAdapters
    tally: Tally
    table: Table[Record]

    async def until(self, deploy_id: str, *states: State) -> DeploymentStatus:
        """Wait for one of `states`."""
        entry, _ = self.registry.find(f"deploy_id:{deploy_id}")
        while entry.state not in states:
            await entry.moved()
        return self.deployments.get(deploy_id)

    async def running(self, name: str = "org/name", **fields: Any) -> str:
        """The id of a deployment that runs."""
        created = await self.deployments.create(spec(name, **fields))
        await self.until(created.deploy_id, "running")
        return created.deploy_id


def spec(name: str = "org/name", **fields: Any) -> DeploySpec:
    return DeploySpec(model_name=name, model=fields.pop("model", "hub/model"), **fields)


@asynccontextmanager
async def deployments(
    url: str = "sqlite://", *, budget: int = 10, drain_s: float = 30.0, restore: bool = True
) -> AsyncIterator[Site]:
    """Deployments; whatever they hold must be given back in the end."""
    own = Store(url)
    ledger = Ledger({"cpu": budget})
    registry, adapters, tally = Registry(), NoAdapters(), Tally()
    models = Models(ledger)
    table = own.table("deployments", Record)
    serial = itertools.count(1)
    made = Deployments(
        registry,
        models,
        adapters,
        table,
        tally,
        paths=PathPolicy(folders=(FOLDER,)),
        drain_s=drain_s,
        new_id=lambda: f"{next(serial):016}",
    )
    try:
        if restore:
            made.restore()
            made.resume()
        yield Site(made, registry, models, adapters, tally, table)
    finally:
        for gate in (models.fetching, models.reading):
            gate.open.set()
        await made.close()
        assert not ledger.owners
        own.close()
