"""Whether and how a model would fit: what `inferd plan` and `GET /v1/plan` say.

First everything that takes time is found out (`Planner.survey`: folders, the hub), then the plan is
made of it, where the ledger is (`Planner.plan`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from inferd.engines.base import EngineSpec
from inferd.engines.native.kv_spec import Dtype, KVSpec
from inferd.engines.native.memory import stored_bytes
from inferd.engines.native.sizes import Shape, read_shape
from inferd.errors import StartError
from inferd.estimate import Checkpoint, Estimate, estimate, pick_device
from inferd.hub import Hub, repo_of
from inferd.ledger import HOST, Ledger
from inferd.measurements import Measured
from inferd.peft_files import CONFIG, MAX_HEADER, TENSORS
from inferd.remote import Unreachable, cached, read_adapter, read_model
from inferd.residency import Eviction, Residency
from inferd.sources import is_path
from inferd.units import human_bytes
from inferd.weights import DEMO, read_header

OPTIONS = (
    *("dtype", "quantization", "device", "max_model_len", "max_batch_size", "max_batch_tokens"),
    *("kv_cache_bytes", "max_adapters", "max_adapter_rank", "deterministic"),
)
"""Those of `inferd serve` that a running daemon can be asked to plan with."""


class PlannedAdapter(Struct, frozen=True):
    """An adapter by its files. Bytes in the number type that the model is served in."""

    source: str
    rank: int
    num_bytes: int


class PlannedEviction(Struct, frozen=True):
    """A model that would be put to sleep; `why` it and no other."""

    model: str
    level: int
    num_bytes: int
    why: str


class Plan(Struct, frozen=True, kw_only=True):
    """How a model would run here. Bytes and tokens.

    Args:
        fits: now, or once what `evictions` lists sleeps.
        reason: in one sentence.
        change: the smallest change with which it fits, as an option; empty where it does, or
            where none helps.
        quantization: `int8`, or empty where weights are in `dtype`.
        exact: whether weights and KV cache are known to the byte.
        parts: of `device`; `host_bytes` is what a GPU's model takes of main memory beside them.
        download_bytes: what serving it would fetch; 0 where it is on this machine.
        concurrent: sequences of `max_model_len` tokens that the KV cache holds at once.
    """

    model: str
    revision: str | None
    architecture: str
    runner: str
    why_not_native: str
    dtype: str
    quantization: str
    exact: bool
    device: str
    budget_bytes: int
    free_bytes: int
    parts: dict[str, int]
    total_bytes: int
    host_bytes: int
    process_measured: bool
    download_bytes: int
    kv_bytes_per_token: int
    kv_tokens: int
    block_size: int
    max_position: int
    max_model_len: int
    max_batch_size: int
    concurrent: int
    max_adapters: int
    max_adapter_rank: int
    adapters: tuple[PlannedAdapter, ...]
    fits: bool
    reason: str
    change: str
    evictions: tuple[PlannedEviction, ...]


@dataclass(frozen=True)
class Asked:
    """What to plan.

    Args:
        model: `demo`, an absolute folder, or a hub id, `org/name` or `org/name@revision`.
        adapters: how many at once, or which: folders or hub ids. None: as `spec` says.
        spec: the engine's options; its `model` is found out.
    """

    model: str
    spec: EngineSpec
    revision: str | None = None
    adapters: int | tuple[str, ...] | None = None


@dataclass(frozen=True)
class Survey:
    """What there is to know of what was asked, before the ledger is looked at."""

    model: str
    spec: EngineSpec
    checkpoint: Checkpoint
    revision: str | None = None
    download_bytes: int = 0
    adapters: tuple[PlannedAdapter, ...] = ()
    measured: Measured | None = None


Examine = Callable[[Path], tuple[tuple[KVSpec, ...], int]]


@dataclass(frozen=True)
class Planner:
    """Plans for one machine.

    Args:
        spec: the options that hold where `Asked` names no others.
        examine: tells more of a folder's model that only transformers' code runs; slow.
    """

    ledger: Ledger
    residency: Residency
    spec: EngineSpec = EngineSpec()  # noqa: RUF009 (frozen)
    hub: Hub = field(default_factory=Hub)
    recall: Callable[[EngineSpec], Measured | None] = lambda spec: None
    examine: Examine | None = None

    def survey(self, asked: Asked) -> Survey:
        """Look at files and at the hub; nothing is downloaded but configs and headers. Blocks.

        Raises StartError: `not_found`, `forbidden`, `unsupported`, `bad_weights` or `bad_option`.
        """
        spec = replace(asked.spec, device=pick_device(asked.spec.device, self._budgets))
        folder, commit, size, checkpoint = self._find(asked)
        if folder is not None:
            spec = replace(spec, model=str(folder))
        shape = _shape(spec, checkpoint)
        if folder is not None and shape.runner != "native" and self.examine is not None:
            checkpoint = dataclasses.replace(checkpoint, examined=self.examine(folder))
        listed = asked.adapters if isinstance(asked.adapters, tuple) else ()
        adapters = tuple(self._adapter(source, shape.dtype) for source in listed)
        spec = _with_adapters(spec, asked.adapters, adapters)
        measured = self.recall(spec)
        return Survey(asked.model, spec, checkpoint, commit, size, adapters, measured)

    def _find(self, asked: Asked) -> tuple[Path | None, str | None, int, Checkpoint]:
        """(folder, commit, bytes to download, what is in it)."""
        folder = _folder(asked.model)
        if folder is not None:
            return folder, None, 0, Checkpoint.of(folder)
        repo, revision = repo_of(asked.model, asked.revision)
        remote = None
        try:
            remote = read_model(repo, revision, self.hub)
        except Unreachable:
            if (folder := cached(repo, revision, self.hub)) is None:
                raise
        else:
            folder = cached(repo, remote.commit, self.hub)
        if folder is not None:
            return folder, folder.name, 0, Checkpoint.of(folder)
        assert remote is not None
        checkpoint = Checkpoint(remote.config, remote.headers)
        return None, remote.commit, remote.download_bytes, checkpoint

    def plan(self, survey: Survey) -> Plan:
        """The plan, as things are now. Raises StartError, as `estimate` does."""
        found = estimate(
            survey.spec,
            self._budgets,
            checkpoint=survey.checkpoint,
            measured=survey.measured,
            free={device: self.ledger.free(device) for device in self.ledger.devices},
        )
        refusal, evictions = found.refusal, []
        if refusal is None:
            try:
                evictions = self.residency.preview("", found.device, found.need)
            except StartError as error:
                refusal = error
        return _told(survey, found, evictions, refusal, self.ledger)

    @property
    def _budgets(self) -> dict[str, int]:
        return {device: self.ledger.budget(device) for device in self.ledger.devices}

    def _adapter(self, source: str, dtype: Dtype) -> PlannedAdapter:
        folder = _folder(source)
        if folder is None:
            remote = read_adapter(*repo_of(source), self.hub)
            config, headers = remote.config, remote.headers
        else:
            config = _json(folder / CONFIG)
            headers = read_header(folder / TENSORS, MAX_HEADER)
        ranks = [config.get("r"), *dict(config.get("rank_pattern") or {}).values()]
        rank = max((each for each in ranks if isinstance(each, int)), default=0)
        return PlannedAdapter(source, rank, stored_bytes(headers.values(), dtype))


def _folder(named: str) -> Path | None:
    """The local folder that was named, the demo's included; None for hub ids."""
    if named == DEMO:
        from inferd import demo

        return demo.path()
    return Path(named).expanduser() if is_path(named) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StartError("not_found", f"There is no {path.name} in {path.parent}") from None
    except (OSError, ValueError) as error:
        raise StartError("bad_weights", f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise StartError("bad_weights", f"{path} is not a JSON object")
    return value


def _shape(spec: EngineSpec, checkpoint: Checkpoint) -> Shape:
    return read_shape(
        checkpoint.config,
        checkpoint.headers,
        dtype=spec.dtype,
        quantization=spec.quantization,
        on_cpu=spec.device == HOST,
    )


def _with_adapters(
    spec: EngineSpec, asked: int | tuple[str, ...] | None, adapters: tuple[PlannedAdapter, ...]
) -> EngineSpec:
    """`spec` with slots and memory for so many adapters, or for these."""
    if isinstance(asked, int):
        return replace(spec, max_adapters=asked)
    if not adapters:
        return spec
    return replace(
        spec,
        max_adapters=len(adapters),
        max_adapter_rank=max(1, *(each.rank for each in adapters)),
        adapter_host_bytes=sum(each.num_bytes for each in adapters),
    )


def _told(
    survey: Survey,
    found: Estimate,
    evictions: Sequence[Eviction],
    refusal: StartError | None,
    ledger: Ledger,
) -> Plan:
    shape, need = found.shape, found.need
    assert shape is not None, "plans are made of models"
    return Plan(
        model=survey.model,
        revision=survey.revision,
        architecture=shape.architecture,
        runner=shape.runner,
        why_not_native=shape.why_not_native,
        dtype=shape.dtype.name,
        quantization=shape.quantization,
        exact=shape.runner == "native",
        device=found.device,
        budget_bytes=ledger.budget(found.device),
        free_bytes=max(0, ledger.free(found.device)),
        parts=need.parts(),
        total_bytes=need.total,
        host_bytes=need.host,
        process_measured=found.measured,
        download_bytes=survey.download_bytes,
        kv_bytes_per_token=shape.kv_bytes_per_token,
        kv_tokens=found.kv_tokens,
        block_size=found.spec.block_size,
        max_position=shape.max_position,
        max_model_len=found.max_model_len,
        max_batch_size=found.spec.max_batch_size,
        concurrent=found.concurrent,
        max_adapters=found.spec.max_adapters if shape.adapter_bytes else 0,
        max_adapter_rank=found.spec.max_adapter_rank,
        adapters=survey.adapters,
        fits=refusal is None,
        reason=refusal.message if refusal else _reason(evictions, need.total, found.device),
        change=refusal.hint if refusal else "",
        evictions=tuple(
            PlannedEviction(each.owner, each.level, each.num_bytes, each.why) for each in evictions
        ),
    )


def _reason(evictions: Sequence[Eviction], total: int, device: str) -> str:
    needed = f"It needs {human_bytes(total)} of {device}"
    if not evictions:
        return f"{needed}, and so much is free"
    who = ", ".join(f"{each.owner} ({each.why})" for each in evictions)
    return f"{needed}, which is free once these sleep: {who}"
