"""`/v1/plan` and `/v1/ledger`, and the metrics of memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from inferd import demo
from inferd.ledger import Ledger, LedgerView, Need
from inferd.messages import MemoryUse
from inferd.planning import Plan
from inferd.residency import Eviction
from inferd.sources import PathPolicy
from tests.web.site_under_test import Site

MIB = 1 << 20
WHAT = {"model": "demo", "device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return Ledger({"cpu": 1000 * MIB, "cuda:0": 100 * MIB})


@pytest.fixture(scope="module")
def site(ledger: Ledger) -> Iterator[Site]:
    with Site(memory=ledger) as running:
        yield running


@pytest.fixture
def http(site: Site) -> httpx.Client:
    return site.http


def plan(http: httpx.Client, **query: Any) -> Plan:
    reply = http.get("/v1/plan", params=WHAT | query)
    assert reply.status_code == 200, reply.text
    return msgspec.json.decode(reply.content, type=Plan)


def test_a_plan(http: httpx.Client) -> None:
    found = plan(http)
    assert found.fits
    assert found.total_bytes == sum(found.parts.values())
    assert (found.budget_bytes, found.free_bytes) == (1000 * MIB, 1000 * MIB)
    assert found.reason.startswith("It needs 792.0 MiB of cpu")


def test_options_change_it(http: httpx.Client) -> None:
    found = plan(http, kv_cache_bytes="6MiB", max_model_len=512, adapters=0, max_batch_size=8)
    assert found.parts["kv_cache"] == 6 * MIB
    assert (found.kv_tokens, found.max_model_len, found.concurrent) == (1024, 512, 2)
    assert found.parts["adapters"] == found.max_adapters == 0


def test_what_does_not_fit_is_no_error(http: httpx.Client) -> None:
    found = plan(http, kv_cache_bytes="1GiB")
    assert not found.fits
    assert found.change.startswith("--kv-cache-bytes ")


@pytest.mark.parametrize(
    ("query", "status", "param", "words"),
    [
        ({"model": ""}, 400, "model", "`model` must not be empty"),
        ({"modle": "demo"}, 400, "modle", "did you mean `model`?"),
        ({"max_model_len": "long"}, 400, "max_model_len", "is not a whole number"),
        ({"device": "cuda:7"}, 400, "device", "not one of this machine's"),
        ({"model": "org/none@v1", "revision": "v2"}, 400, "revision", "different revisions"),
        ({"adapters": "2000"}, 400, "adapters", "at most 1024"),
        ({"dtype": "float8"}, 400, "dtype", "float8"),
        ({"model": "/none/of/these"}, 404, "model", "no config.json"),
        ({"model": "not an id"}, 404, "model", "not a hub id"),
        ({"model": "org/none"}, 503, None, "The hub cannot be asked"),
        ({"adapters": "/none"}, 404, "model", "no adapter_config.json"),
    ],
)
def test_bad_questions(
    http: httpx.Client, query: dict[str, str], status: int, param: str | None, words: str
) -> None:
    reply = http.get("/v1/plan", params=WHAT | query)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param), error
    assert words in error["message"]


def test_folders_that_are_not_allowed(tmp_path: Path) -> None:
    with Site(paths=PathPolicy(folders=(tmp_path,))) as site:
        for name in ("model", "adapters"):
            query = {"model": "demo"} | {name: str(demo.path())}
            reply = site.http.get("/v1/plan", params=query)
            assert reply.status_code == 403
            assert reply.json()["error"]["param"] == name


def test_the_ledger_and_its_metrics(site: Site, ledger: Ledger) -> None:
    use = MemoryUse(weights=40, kv_cache=30, process=11, measured=81)
    held = [ledger.reserve("a", key, "cpu", Need(weights=40, process=10)) for key in "01"]
    held.append(ledger.reserve("b", "0", "cuda:0", Need(weights=50, host=5)))
    held[0].settle(use)
    try:
        view = msgspec.json.decode(site.http.get("/v1/ledger").content, type=LedgerView)
        assert view == ledger.snapshot()
        host, gpu = view.devices
        assert [(each.owner, each.key, each.reserved) for each in host.holdings] == [
            ("a", "0", 81),
            ("a", "1", 50),
            ("b", "0", 5),
        ]
        assert (gpu.reserved, gpu.free) == (50, 100 * MIB - 50)
        text = site.http.get("/metrics").text
        assert 'inferd_memory_bytes{device="cpu",owner="a",part="weights"} 80.0' in text
        assert 'inferd_memory_bytes{device="cpu",owner="b",part="process"} 5.0' in text
        assert 'inferd_memory_measured_bytes{device="cpu",owner="a"} 81.0' in text
        assert 'inferd_memory_budget_bytes{device="cuda:0"} 1.048576e+08' in text
    finally:
        for each in held:
            each.release()


def test_evictions_are_counted(site: Site) -> None:
    for level in (1, 2, 2):
        site.memory_metrics.evicted(Eviction("a", level, 1, "had its time"))
    text = site.http.get("/metrics").text
    assert 'inferd_evictions_total{level="2",model_name="a"} 2.0' in text
