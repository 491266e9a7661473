"""Which models are served, and under which names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from inferd.engines.base import Engine
from inferd.errors import NotFound, Unavailable
from inferd.text.model import TextModel


@dataclass(frozen=True)
class Deployment:
    """A model that is being served.

    Args:
        name: what clients write as `model`, and the `model_name` label of metrics.
        aliases: further names that clients may write.
        created: Unix time in seconds.
    """

    name: str
    engine: Engine
    text: TextModel
    created: int
    aliases: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the engine takes requests now."""
        return self.engine.state == "ready"


class Registry:
    """Deployments by name; the first one added is listed first."""

    def __init__(self) -> None:
        self._deployments: list[Deployment] = []
        self._by_name: dict[str, Deployment] = {}

    def add(self, deployment: Deployment) -> None:
        """Serve `deployment` under its name and aliases.

        Raises:
            ValueError: one of the names is taken.
        """
        names = {deployment.name, *deployment.aliases}
        if taken := sorted(names & self._by_name.keys()):
            raise ValueError(f"already served: {', '.join(taken)}")
        self._deployments.append(deployment)
        self._by_name.update(dict.fromkeys(names, deployment))

    def resolve(self, model: str) -> Deployment:
        """The deployment that answers for `model`.

        Raises:
            NotFound: no deployment has this name (404, `model_not_found`).
            Unavailable: there is none at all, since the daemon is starting.
        """
        if not self._deployments:
            raise Unavailable("No model is loaded yet")
        found = self._by_name.get(model)
        if found is None:
            shown = model if len(model) <= 200 else model[:200] + "…"
            raise NotFound(f"The model `{shown}` does not exist.", param="model")
        return found

    def list(self) -> tuple[Deployment, ...]:
        return tuple(self._deployments)

    def engines(self) -> Iterator[tuple[str, Engine]]:
        """(model name, engine) of every deployment."""
        return ((each.name, each.engine) for each in self._deployments)
