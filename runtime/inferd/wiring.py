"""All parts of one daemon, made from its options and joined; nothing runs yet."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from starlette.types import ASGIApp

from inferd.adapters.library import Library
from inferd.adapters.records import AdapterRecord
from inferd.adapters.table import Adapters
from inferd.admission import Admission
from inferd.auth import Auth
from inferd.config import ServeConfig
from inferd.config.serve import is_loopback
from inferd.deployments import Deployments, DeploySpec, Record, Served
from inferd.engines.base import EngineSpec, Progress
from inferd.engines.gpus import list_gpus
from inferd.estimate import Estimate, budgets_of, estimate, pick_device
from inferd.fingerprint import version_of
from inferd.hub import Hub, OnProgress
from inferd.ledger import HOST, Ledger
from inferd.measurements import Measured, Measurements
from inferd.memory_metrics import MemoryMetrics
from inferd.messages import EngineInfo
from inferd.metrics import Metrics
from inferd.offload import in_thread
from inferd.planning import Planner
from inferd.registry import Registry
from inferd.replicas.replica_set import ReplicaSet
from inferd.replicas.scaling import Limits
from inferd.residency import Residency
from inferd.service import Service
from inferd.sources import PathPolicy
from inferd.store import Store
from inferd.tally import Tally
from inferd.text.model import TextModel, load_text
from inferd.web.app import create_app
from inferd.weights import DEMO, ModelFolder, name_of, resolve, told_as

DATABASE = "state.db"
ADAPTERS = "adapters"

# Options that the command line gives to its own model alone, and what holds for the others.
_OF_ONE_MODEL = {
    "max_model_len": None,
    "kv_cache_bytes": None,
    "dtype": "auto",
    "quantization": "auto",
}

_log = logging.getLogger("inferd.wiring")


@dataclass(frozen=True)
class Assembly:
    """What the daemon starts, asks and ends."""

    store: Store
    auth: Auth
    paths: PathPolicy
    admission: Admission
    adapters: Adapters
    deployments: Deployments
    service: Service
    app: ASGIApp


def assemble(config: ServeConfig, state: Path) -> Assembly:
    """The parts; what outlives the daemon is in the folder `state`.

    Raises:
        StartError: `bad_option`: the database cannot be had.
    """
    store = Store(config.database or f"sqlite:///{state / DATABASE}")
    registry = Registry()
    tally = Tally()
    metrics = Metrics(tally)
    admission = Admission(config.max_batch_size + config.max_queue_requests)
    auth = Auth(config.api_key)
    paths = path_policy(config)
    ledger = Ledger(
        budgets_of(
            list_gpus(),
            memory_budget=config.memory_budget,
            memory_fraction=config.memory_fraction,
        )
    )
    memory = MemoryMetrics(ledger)
    metrics.add(memory)
    residency = Residency(ledger, on_evict=memory.evicted)
    records = store.table("adapters", AdapterRecord)
    adapters = Adapters(
        Library(state / ADAPTERS), records, registry, keep_previous=config.adapter_history
    )
    measurements = Measurements(store.table("measured", Measured))
    deployments = Deployments(
        registry,
        Models(config, ledger, residency, measurements),
        adapters,
        store.table("deployments", Record),
        tally,
        paths=paths,
        drain_s=config.shutdown_timeout,
    )
    service = Service(
        registry, admission, metrics, adapters=adapters, entropy=seed_source(config.seed)
    )
    app = create_app(
        service,
        registry,
        admission,
        metrics,
        auth,
        adapters=adapters,
        deployments=deployments,
        planner=Planner(ledger, residency, spec_of_others(config), recall=measurements.recall),
        paths=paths,
        cors_origins=config.cors_origin,
    )
    return Assembly(store, auth, paths, admission, adapters, deployments, service, app)


class Models:
    """How this daemon fetches, reads and runs models (`deployments.Means`)."""

    def __init__(
        self, config: ServeConfig, ledger: Ledger, room: Residency, measurements: Measurements
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._room = room
        self._measurements = measurements

    def fetch(
        self, model: str, revision: str | None, token: str | None, on_progress: OnProgress
    ) -> ModelFolder:
        hub, local = Hub(token=token), Path(model).is_absolute()  # checked by who named it
        return resolve(model, revision, hub=hub, on_progress=on_progress, local=local)

    def read(self, spec: DeploySpec, folder: ModelFolder) -> tuple[TextModel, str]:
        with told_as(spec.model, folder.path):
            text = load_text(
                folder.path,
                tool_call_parser=spec.tool_call_parser,
                reasoning_parser=spec.reasoning_parser,
            )
            version = version_of(folder)
        calls = text.syntax.name if text.syntax else "none"
        thoughts = text.thinking.name if text.thinking else "none"
        _log.info("tool calls are read as %s, reasoning as %s", calls, thoughts)
        return text, version

    async def engine(self, spec: DeploySpec, folder: Path) -> Served:
        asked = deployed_spec(self._config, spec, folder)
        with told_as(spec.model, folder):
            found = await in_thread(lambda: self._estimate(asked))
        idle = self._config.idle_timeout if spec.idle_timeout is None else spec.idle_timeout
        devices = devices_of(asked.device, found.device, self._ledger.devices)
        limits = Limits(idle_s=idle)
        return Replicas(spec, found, devices, self._room, self._measurements, limits)

    def _estimate(self, asked: EngineSpec) -> Estimate:
        """Raises `StartError` if it cannot fit."""
        devices = self._ledger.devices
        budgets = {device: self._ledger.budget(device) for device in devices}
        free = {device: self._ledger.free(device) for device in devices}
        asked = msgspec.structs.replace(asked, device=pick_device(asked.device, budgets))
        measured = self._measurements.recall(asked)
        return estimate(asked, budgets, measured=measured, free=free).fitting()


class Replicas(ReplicaSet):
    """Those of one deployment; what its first start shows is kept for the next time."""

    def __init__(
        self,
        asked: DeploySpec,
        found: Estimate,
        devices: Sequence[str],
        room: Residency,
        measurements: Measurements,
        limits: Limits,
    ) -> None:
        super().__init__(
            found.spec,
            room,
            name=asked.model_name,
            need=found.need,
            devices=devices,
            min_instances=asked.min_instances,
            max_instances=asked.max_instances,
            limits=limits,
        )
        self._asked = found.spec
        self._measurements = measurements

    async def start(self, on_progress: Callable[[Progress], None]) -> EngineInfo:
        info = await super().start(on_progress)
        await in_thread(lambda: self._measurements.note(self._asked, info.memory))
        return info


def devices_of(asked: str, found: str, all_devices: Sequence[str]) -> tuple[str, ...]:
    """Where a model's instances may be: the device that was `found` for it, before the other GPUs
    unless that very one was `asked` for."""
    if found == HOST or asked == found:
        return (found,)
    return found, *(each for each in all_devices if each not in (found, HOST))


def path_policy(config: ServeConfig) -> PathPolicy:
    """Which local folders callers may name."""
    private = is_loopback(config.host) and not config.api_key
    folders = tuple(Path(each).expanduser().resolve() for each in config.allow_path)
    return PathPolicy(everywhere=private and not folders, folders=folders)


def spec_of(config: ServeConfig) -> DeploySpec:
    """The command line's model as a deployment."""
    name, *aliases = served_names(config)
    folder = Path(config.model).expanduser()
    is_local = config.model != DEMO and folder.exists()
    return DeploySpec(
        model_name=name,
        aliases=tuple(aliases),
        model=str(folder.absolute()) if is_local else config.model,
        revision=config.revision,
        min_instances=config.min_instances,
        max_instances=config.max_instances,
        tool_call_parser=config.tool_call_parser,
        reasoning_parser=config.reasoning_parser,
        max_model_len=config.max_model_len,
        kv_cache_bytes=config.kv_cache_bytes,
        dtype=config.dtype,
        quantization=config.quantization,
    )


def deployed_spec(config: ServeConfig, spec: DeploySpec, folder: Path) -> EngineSpec:
    """What a deployment's processes need to know: as it asks, and else as the options say."""
    asked = _OF_ONE_MODEL | spec.engine_options()
    return msgspec.structs.replace(engine_spec(config, folder), **asked)


def spec_of_others(config: ServeConfig) -> EngineSpec:
    """The options that hold for models that the command line does not name."""
    return msgspec.structs.replace(engine_spec(config, Path()), engine="native", **_OF_ONE_MODEL)


def engine_spec(config: ServeConfig, folder: Path) -> EngineSpec:
    """What the command line's model's process needs to know. `--engine echo:delay=0.1` sets
    echo's options."""
    shared = {
        name: getattr(config, name)
        for name in EngineSpec.__struct_fields__
        if getattr(config, name, None) is not None
    }
    engine, options, _ = config.engine.partition(":")
    model = config.engine if options else os.fspath(folder)
    return msgspec.convert(shared | {"engine": engine, "model": model}, EngineSpec)


def seed_source(seed: int | None) -> Callable[[], int]:
    """Seeds in [0, 2**64) for requests that bring none: by chance, or the same in every run."""
    source = random.SystemRandom() if seed is None else random.Random(seed)
    return lambda: source.getrandbits(64)


def served_names(config: ServeConfig) -> tuple[str, ...]:
    """The names that clients may write, the model's own first: as given, or the model's and what
    the operator wrote."""
    return config.served_model_name or tuple(dict.fromkeys((name_of(config.model), config.model)))
