"""What deployments are made with; the daemon gives it to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from inferd.deployments.spec import DeploySpec
from inferd.engines.base import Engine
from inferd.errors import StartError
from inferd.hub import OnProgress
from inferd.registry import Deployment
from inferd.replicas.instances import Instances
from inferd.text.model import TextModel
from inferd.weights import ModelFolder


class Served(Engine, Protocol):
    """An engine of one or several instances (`replicas.ReplicaSet`)."""

    @property
    def instances(self) -> Instances: ...

    @property
    def in_flight(self) -> int:
        """Streams that run."""

    @property
    def num_open(self) -> int:
        """Streams that have a reader, ended or not: it may be about to open another one."""

    @property
    def reason(self) -> StartError | None:
        """Why it last failed to run; None if it never did."""

    def set_limits(self, min_instances: int, max_instances: int) -> None: ...


class Adapters(Protocol):
    """The adapters whose bases deployments are (`adapters.Adapters`)."""

    async def attach(self, deployment: Deployment) -> None:
        """Load what belongs to `deployment` into it."""

    async def detach(self, deployment: Deployment) -> None:
        """`deployment` goes: its adapters wait for another of its name."""

    async def forget(self, base: str) -> None:
        """The deployment `base` is deleted, and its adapters with it."""

    def find(self, name: str) -> object | None: ...


class Means(Protocol):
    """How a model is fetched, read and run. The first two block, and are called on threads. All
    raise `StartError`."""

    def fetch(
        self, model: str, revision: str | None, token: str | None, on_progress: OnProgress
    ) -> ModelFolder: ...

    def read(self, spec: DeploySpec, folder: ModelFolder) -> tuple[TextModel, str]:
        """The model's text side, and the version of the checkpoint."""

    async def engine(self, spec: DeploySpec, folder: Path) -> Served:
        """Not yet started."""


Now = Callable[[], float]
"""Unix time in seconds."""
