"""Plans: of models here and on a hub, beside what is in memory already."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
from msgspec.structs import replace
from safetensors.numpy import save

from inferd import demo
from inferd.engines.base import EngineSpec
from inferd.errors import StartError
from inferd.hub import Hub, fetch
from inferd.ledger import Need
from inferd.measurements import Measured
from inferd.planning import Asked, Plan, Planner
from tests import hub_server
from tests.residency.machine import Machine

MIB = 1 << 20
SPEC = EngineSpec(device="cpu", dtype="float32", max_batch_size=4)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.HubServer]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_server.serve() as server:
        files = {path.name: path.read_bytes() for path in demo.path().iterdir() if path.is_file()}
        server.repos["org/model"] = hub_server.Repo(files | {"pytorch_model.bin": b"x" * 999})
        yield server


def planner(
    machine: Machine,
    hub: hub_server.HubServer | None = None,
    cache: Path = Path("/nowhere"),
    recall: Callable[[EngineSpec], Measured | None] = lambda spec: None,
) -> Planner:
    there = Hub(endpoint=hub.endpoint if hub else "http://127.0.0.1:9", cache=cache)
    return Planner(machine.ledger, machine.residency, hub=there, recall=recall)


def plan(maker: Planner, model: str, spec: EngineSpec = SPEC, **asked: object) -> Plan:
    return maker.plan(maker.survey(Asked(model, spec, **asked)))  # type: ignore[arg-type]


def test_a_model_on_the_hub_is_planned_without_its_weights(hub: hub_server.HubServer) -> None:
    machine = Machine({"cpu": 8 << 30})
    there, here = plan(planner(machine, hub), "org/model"), plan(planner(machine), "demo")
    assert there.revision == hub_server.COMMIT
    assert there.parts == here.parts
    assert (there.kv_tokens, there.max_model_len) == (here.kv_tokens, here.max_model_len)
    assert here.download_bytes == 0
    files = hub.repos["org/model"].files
    assert 11 * MIB < there.download_bytes < sum(map(len, files.values())) - 999
    content = [each for each in hub.requests if "/resolve/" in each]
    assert sorted(each.split("/")[-1] for each in content) == [
        "config.json",
        "model.safetensors bytes=0-100000",
    ]


def test_a_model_in_int8() -> None:
    maker = planner(Machine({"cpu": 8 << 30}))
    floats, found = plan(maker, "demo"), plan(maker, "demo", replace(SPEC, quantization="int8"))
    assert (floats.quantization, found.quantization) == ("", "int8")
    assert found.dtype == "float32"
    assert found.exact
    assert 0.26 < found.parts["weights"] / floats.parts["weights"] < 0.27


def test_a_sharded_model(hub: hub_server.HubServer) -> None:
    files = {
        "config.json": (demo.path() / "config.json").read_bytes(),
        "model.safetensors.index.json": json.dumps(
            {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
        ).encode(),
        "1.safetensors": save({"a": numpy.zeros((4, 4), "float32")}),
        "2.safetensors": save({"b": numpy.zeros(10, "float16")}),
    }
    hub.repos["org/sharded"] = hub_server.Repo(files)
    survey = planner(Machine({"cpu": 8 << 30}), hub).survey(Asked("org/sharded@main", SPEC))
    assert {name: info.num_bytes for name, info in survey.checkpoint.headers.items()} == {
        "a": 64,
        "b": 20,
    }


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("org/none", "not_found"),
        ("org/model@nowhere", "not_found"),
        ("org/gated", "forbidden"),
        ("org/pickles", "unsupported"),
        ("org/damaged", "bad_weights"),
        ("../etc/x/y", "not_found"),
        ("http://127.0.0.1:1/x", "not_found"),
    ],
)
def test_what_cannot_be_planned(hub: hub_server.HubServer, model: str, code: str) -> None:
    config = (demo.path() / "config.json").read_bytes()
    hub.repos["org/gated"] = hub_server.Repo({"config.json": config}, gated=True)
    hub.repos["org/pickles"] = hub_server.Repo({"config.json": config, "model.bin": b""})
    damaged = {"config.json": b"[]", "model.safetensors": save({"a": numpy.zeros(1)})}
    hub.repos["org/damaged"] = hub_server.Repo(damaged)
    with pytest.raises(StartError) as refused:
        plan(planner(Machine({"cpu": 1 << 30}), hub), model)
    assert refused.value.code == code


def test_a_damaged_header_on_the_hub(hub: hub_server.HubServer) -> None:
    config = (demo.path() / "config.json").read_bytes()
    hub.repos["org/x"] = hub_server.Repo({"config.json": config, "model.safetensors": b"x" * 99})
    with pytest.raises(StartError):
        plan(planner(Machine({"cpu": 1 << 30}), hub), "org/x")


def test_adapters_on_the_hub(hub: hub_server.HubServer) -> None:
    hub.repos["org/adapter"] = hub_server.Repo(
        {
            "adapter_config.json": b'{"r": 8}',
            "adapter_model.safetensors": save({"a": numpy.zeros((8, 10), "float16")}),
        }
    )
    found = plan(planner(Machine({"cpu": 8 << 30}), hub), "demo", adapters=("org/adapter",))
    assert [(each.source, each.rank, each.num_bytes) for each in found.adapters] == [
        ("org/adapter", 8, 320)
    ]
    assert (found.max_adapters, found.max_adapter_rank, found.parts["adapters"]) == (1, 8, 320)
    with pytest.raises(StartError, match="is not an adapter: it has no adapter_config"):
        plan(planner(Machine({"cpu": 8 << 30}), hub), "demo", adapters=("org/model",))


async def used(machine: Machine, name: str, size: int) -> None:
    await machine.serve(machine.model(name, Need(weights=size)))


@pytest.mark.anyio
async def test_who_would_have_to_sleep_and_why() -> None:
    machine = Machine({"cpu": 1000 * MIB})
    await used(machine, "old", 400 * MIB)
    await machine.clock.advance(5)
    await used(machine, "new", 100 * MIB)
    found = plan(planner(machine), "demo", EngineSpec(device="cpu"))
    assert found.fits
    assert found.free_bytes == 500 * MIB
    assert [(each.model, each.level, each.num_bytes) for each in found.evictions] == [
        ("old", 2, 400 * MIB)
    ]
    assert found.reason.endswith("free once these sleep: old (least recently used)")
    assert machine.told() == []


@pytest.mark.anyio
async def test_what_nobody_can_give_back_is_in_the_way() -> None:
    machine = Machine({"cpu": 1000 * MIB})
    machine.ledger.reserve("the daemon", "", "cpu", Need(process=600 * MIB))
    found = plan(planner(machine), "demo")
    assert not found.fits
    assert "400.0 MiB are free" in found.reason
    assert found.change.startswith("--kv-cache-bytes ")
    smaller = int(found.change.split()[1])
    spec = EngineSpec(device="cpu", max_batch_size=4, kv_cache_bytes=smaller)
    assert plan(planner(machine), "demo", spec).fits


def test_what_does_not_fit_says_what_would() -> None:
    found = plan(planner(Machine({"cpu": 250 * MIB})), "demo")
    assert not found.fits
    assert found.change == "--max-adapters 4"
    assert found.kv_tokens == 0


def test_what_was_measured_is_told() -> None:
    asked: list[EngineSpec] = []

    def recall(spec: EngineSpec) -> Measured:
        asked.append(spec)
        return Measured(123)

    found = plan(planner(Machine({"cpu": 8 << 30}), recall=recall), "demo")
    assert found.parts["process"] == 123
    assert found.process_measured
    assert (asked[0].model, asked[0].device) == (str(demo.path()), "cpu")


def test_a_relative_name_is_never_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: hub_server.HubServer
) -> None:
    (tmp_path / "org" / "none").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartError) as refused:
        plan(planner(Machine({"cpu": 8 << 30}), hub), "org/none")
    assert "no model called org/none on the hub" in refused.value.message


def test_what_was_downloaded_is_planned_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: hub_server.HubServer
) -> None:
    there = Hub(endpoint=hub.endpoint, cache=tmp_path)
    folder = fetch("org/model", None, there, lambda done, total: None)
    asked: list[str] = []

    def recall(spec: EngineSpec) -> None:
        asked.append(spec.model)

    maker = planner(Machine({"cpu": 8 << 30}), hub, tmp_path, recall)
    assert plan(maker, "org/model").download_bytes == 0
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = plan(maker, "org/model")
    assert (offline.download_bytes, offline.revision) == (0, hub_server.COMMIT)
    assert asked == [str(folder)] * 2


def test_a_refusal_by_the_hub_is_not_got_around_by_the_cache(
    tmp_path: Path, hub: hub_server.HubServer
) -> None:
    fetch("org/model", None, Hub(hub.endpoint, tmp_path), lambda done, total: None)
    hub.repos["org/model"].gated = True
    with pytest.raises(StartError) as refused:
        plan(planner(Machine({"cpu": 8 << 30}), hub, tmp_path), "org/model")
    assert refused.value.code == "forbidden"


def test_no_hub_and_no_cache(tmp_path: Path, hub: hub_server.HubServer) -> None:
    hub.broken = True
    with pytest.raises(StartError) as refused:
        plan(planner(Machine({"cpu": 8 << 30}), hub, tmp_path), "org/model")
    assert refused.value.message == "The hub cannot be asked for org/model"
