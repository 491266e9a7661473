"""GPUs under the names by which deployments ask for them."""

from __future__ import annotations

import pytest

from inferd.web.deploy import machine

GB = 10**9


@pytest.mark.parametrize(
    ("product", "num_bytes", "name"),
    [
        ("NVIDIA H200", 150 * GB, "H200-141GB"),
        ("NVIDIA H100 80GB HBM3", 85 * GB, "H100-80GB"),
        ("NVIDIA A100-SXM4-80GB", 85 * GB, "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", 42 * GB, "other"),
        ("NVIDIA L40S", 48 * GB, "L40S-48GB"),
        ("NVIDIA L4", 24 * GB, "L4-24GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 102 * GB, "RTXPRO6000-96GB"),
        ("NVIDIA GeForce RTX 4090", 25 * GB, "other"),
    ],
)
def test_a_products_name(product: str, num_bytes: int, name: str) -> None:
    assert machine.name_of(product, num_bytes) == name


def test_what_runs_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = {"cuda:0": "H100-80GB", "cuda:1": "L4-24GB"}
    monkeypatch.setattr(machine, "installed", lambda: gpus)
    assert machine.running_on("cpu") == "cpu"
    assert machine.running_on("cuda:1") == "L4-24GB"
    assert machine.running_on("cuda") == "H100-80GB"
    assert machine.running_on(None) == "H100-80GB"
    monkeypatch.setattr(machine, "installed", dict)
    assert machine.running_on(None) == "cpu"
