"""Which deployments there are, under which names, and in which state."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from inferd.engines.base import Engine
from inferd.errors import Conflict, NotFound, Unavailable
from inferd.lifecycle import COMING, MOVES, Failure, State
from inferd.text.model import TextModel

MIN_VERSION_CHARS = 7  # of a version's beginning, as people cut commits short

_MAX_SHOWN = 200  # characters of a caller's text in a message


@dataclass(frozen=True)
class Deployment:
    """A model that is being served.

    Args:
        name: what clients write as `model`, and the `model_name` label of metrics.
        aliases: further names that clients may write.
        created: Unix time in seconds.
        version: identifies the checkpoint's content; empty where nobody knows.
        given_id: the id given when the deployment was created; empty: made of name and version.
    """

    name: str
    engine: Engine
    text: TextModel
    created: int
    aliases: tuple[str, ...] = ()
    version: str = ""
    given_id: str = ""

    @property
    def ready(self) -> bool:
        """Whether the engine takes requests now; one that sleeps wakes for them."""
        return self.engine.state in ("ready", "asleep")

    @cached_property
    def deploy_id(self) -> str:
        """16 characters. Where none was given: the same for the same name and version, on every
        machine and after every restart."""
        return self.given_id or id_of(self.name, self.version)

    def is_version(self, version: str) -> bool:
        """Whether `version` is this one's, or long enough a beginning of it."""
        cut_short = len(version) >= MIN_VERSION_CHARS and self.version.startswith(version)
        return cut_short or version == self.version != ""


def id_of(name: str, version: str) -> str:
    """A deployment's id, of 16 hex digits, made of what it serves."""
    named = f"{name}\0{version}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(named).hexdigest()[:16]


class Entry:
    """A name in the registry, whatever state what it stands for is in.

    Attributes:
        deployment: what serves; set before it is `running`, None where there is nothing.
        failure: why it is `failed`.
        replaced_by: the name of the model that answers in its place; empty: it answers itself.

    Args:
        created: Unix time in seconds.
        required: the server is not ready without it, and requests are told to come back while it
            starts; else they wait.
    """

    def __init__(
        self,
        name: str,
        deploy_id: str,
        created: int,
        *,
        aliases: tuple[str, ...] = (),
        state: State = "initializing",
        deployment: Deployment | None = None,
        replaced_by: str = "",
        required: bool = False,
    ) -> None:
        self.name = name
        self.deploy_id = deploy_id
        self.created = created
        self.aliases = aliases
        self.deployment = deployment
        self.failure: Failure | None = None
        self.replaced_by = replaced_by
        self.required = required
        self._state = state
        self._moved = asyncio.Event()

    @property
    def state(self) -> State:
        return self._state

    @property
    def names(self) -> tuple[str, ...]:
        """What clients may write."""
        return (self.name, *self.aliases, f"deploy_id:{self.deploy_id}")

    @property
    def obstacle(self) -> str:
        """Why it takes no requests now: a state, its own or its engine's; empty: it does."""
        if self._state != "running" or self.deployment is None:
            return self._state
        return "" if self.deployment.ready else self.deployment.engine.state

    def move(self, state: State, failure: Failure | None = None) -> None:
        """Go to `state`; only a move of the table is possible."""
        assert state in MOVES[self._state], f"{self.name}: {self._state} → {state}"
        assert (failure is not None) == (state == "failed"), state
        self._state = state
        self.failure = failure
        self._moved.set()
        self._moved = asyncio.Event()

    async def moved(self) -> None:
        """Wait for the next move."""
        await self._moved.wait()

    def serving(self) -> Deployment:
        """What answers requests now. Raises `Unavailable`, which tells the state."""
        if self._state != "running" or self.deployment is None:
            retry = 5.0 if self._state in COMING else 60.0
            raise Unavailable(f"The model `{self.name}` is {self._state}", retry_after=retry)
        return self.deployment


class Registry:
    """Entries by name; the first one added is listed first."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._by_name: dict[str, Entry] = {}

    # ------------------------------------------------------------ changes

    def add(self, deployment: Deployment) -> Entry:
        """Serve `deployment` under its name, its aliases and its id, from now on.

        Raises:
            Conflict: one of the names is taken.
        """
        entry = Entry(
            deployment.name,
            deployment.deploy_id,
            deployment.created,
            aliases=deployment.aliases,
            state="running",
            deployment=deployment,
            required=True,
        )
        self.enter(entry)
        return entry

    def enter(self, entry: Entry) -> None:
        """Know `entry` under its names. Raises `Conflict` where one is taken; nothing changes."""
        if taken := sorted(set(entry.names) & self._by_name.keys()):
            names = ", ".join(f"`{_shown(name)}`" for name in taken)
            raise Conflict(f"There is already a model called {names}", param="model_name")
        self._entries.append(entry)
        self._by_name.update(dict.fromkeys(entry.names, entry))

    def remove(self, entry: Entry) -> None:
        """Forget `entry`; its names are free again."""
        self._entries.remove(entry)
        for name in set(entry.names):
            del self._by_name[name]

    # ------------------------------------------------------------ requests

    def resolve(self, model: str) -> Deployment:
        """The deployment that answers for `model` now: a name as it was given, `deploy_id:ID`, or
        either of them with `:VERSION` behind it. What was replaced leads to what replaced it.

        Raises:
            NotFound: no deployment has this name or version (404, `model_not_found`).
            Unavailable: it does not run now; tells its state.
        """
        entry, version = self._answering(model)
        return self._checked(entry, version)

    async def await_ready(self, model: str, timeout: float) -> Deployment:
        """As `resolve`, after waiting for what is on its way to run, for at most `timeout`
        seconds. Raises what `resolve` raises."""
        entry, version = self._answering(model)
        if entry.state in COMING and not entry.required:
            try:
                async with asyncio.timeout(timeout):
                    while entry.state in COMING:
                        await entry.moved()
            except TimeoutError:
                pass  # it is still coming, which is told
        return self._checked(entry, version)

    def replacement(self, model: str) -> str:
        """The name of the model that answers in place of `model`; empty: it answers itself.
        Raises as `resolve`, but for `Unavailable`."""
        asked, _ = self.find(model)
        answering, _ = self._answering(model)
        return "" if answering is asked else answering.name

    def _answering(self, model: str) -> tuple[Entry, str | None]:
        """Whoever answers for `model`, and the version that must be meant; None: any."""
        entry, version = self.find(model)
        if not entry.replaced_by:
            return entry, version
        last = self.chain(model)[-1]
        if last.replaced_by:
            raise NotFound(
                f"The model `{_shown(model)}` was replaced by `{_shown(last.replaced_by)}`, "
                "which does not exist.",
                param="model",
            )
        return last, None

    @staticmethod
    def _checked(entry: Entry, version: str | None) -> Deployment:
        deployment = entry.serving()
        if version is not None and not deployment.is_version(version):
            raise NotFound(
                f"The model `{entry.name}` has no version `{_shown(version)}`.", param="model"
            )
        return deployment

    # ------------------------------------------------------------ look-ups

    def knows(self, name: str) -> bool:
        """Whether `name` is taken, in whatever state what it stands for is."""
        return name in self._by_name

    def find(self, model: str) -> tuple[Entry, str | None]:
        """The entry that `model` names, in whatever state, replaced or not, and the version that
        follows the name; None where none does. Raises `NotFound`, and `Unavailable` where there
        is no entry at all, since the daemon is starting."""
        if not self._entries:
            raise Unavailable("No model is loaded yet")
        if (found := self._by_name.get(model)) is not None:
            return found, None
        name, _, version = model.rpartition(":")
        versioned = self._by_name.get(name)
        if versioned is None:
            raise NotFound(f"The model `{_shown(model)}` does not exist.", param="model")
        return versioned, version

    def chain(self, model: str) -> tuple[Entry, ...]:
        """The entry that `model` names, and each that replaces the one before it. Where the last
        one is replaced as well, by what is not there or leads back, it says so itself."""
        found: list[Entry] = []
        entry = self._by_name.get(model) or self._by_name.get(model.rpartition(":")[0])
        while entry is not None and entry not in found:
            found.append(entry)
            entry = self._by_name.get(entry.replaced_by)
        return tuple(found)

    def entries(self) -> tuple[Entry, ...]:
        """Everything there is, in whatever state."""
        return tuple(self._entries)

    def list(self) -> tuple[Deployment, ...]:
        """What is being served."""
        running = (each for each in self._entries if each.state == "running")
        return tuple(each.deployment for each in running if each.deployment is not None)

    def names(self) -> Iterator[tuple[str, Deployment]]:
        """Every name and alias that clients may write, with the deployment that it means."""
        return ((name, each) for each in self.list() for name in (each.name, *each.aliases))

    def engines(self) -> Iterator[tuple[str, Engine]]:
        """(model name, engine) of every deployment."""
        return ((each.name, each.engine) for each in self.list())


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
