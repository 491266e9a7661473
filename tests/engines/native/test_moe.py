"""The sparse MLP: what its formula says, a token at a time, and without waiting for a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from inferd.engines.native.decoder_config import MoESpec
from inferd.engines.native.moe import SparseMLP
from inferd_kernels.activation import gated
from inferd_kernels.dispatch import only, prefer_invariant
from inferd_kernels.grouped_linear import gpu
from inferd_kernels.linear import PackedWeight, linear
from tests.kernels.gpu_device import DEVICE, NATIVE

HIDDEN, INNER = 12, 8
SAME = 0.0 if NATIVE else 1e-6
"""numpy, and so the interpreter, adds in an order that depends on a row's place in a tile."""


def sparse(
    experts: int,
    top_k: int,
    *,
    normalize: bool = True,
    packed: bool = False,
    device: torch.device | None = None,
) -> SparseMLP:
    generator = torch.Generator().manual_seed(experts)

    def matrix(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device or "cpu")

    router, gate_up = matrix(experts, HIDDEN), matrix(experts, 2 * INNER, HIDDEN)
    down = matrix(experts, HIDDEN, INNER)
    spec = MoESpec(experts, top_k, INNER, normalize)
    if not packed:
        return SparseMLP(spec, "silu", router, gate_up, down)
    pack = PackedWeight.of
    return SparseMLP(spec, "silu", pack(router), tuple(map(pack, gate_up)), tuple(map(pack, down)))


def tokens(count: int, device: torch.device | None = None) -> torch.Tensor:
    return torch.randn(count, HIDDEN, generator=torch.Generator().manual_seed(count)).to(
        device or "cpu"
    )


def one_by_one(mlp: SparseMLP, x: torch.Tensor) -> torch.Tensor:
    """Each token through its experts, in the order of their numbers."""
    rows = []
    for token in torch.split(x, 1):
        shares, experts = linear(token, mlp.router).float().softmax(-1).topk(mlp.spec.top_k)
        if mlp.spec.normalize:
            shares = shares / shares.sum(-1, keepdim=True)
        total = torch.zeros(1, x.shape[1], device=x.device)
        for expert, share in sorted(zip(experts[0].tolist(), shares[0], strict=True)):
            inner = gated(linear(token, mlp.gate_up[expert]), mlp.activation)
            total += linear(inner, mlp.down[expert]).float() * share
        rows.append(total.to(x.dtype))
    return torch.cat(rows)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("experts", "top_k"), [(5, 2), (7, 3), (4, 4), (3, 1)])
def test_the_formula_to_the_bit(experts: int, top_k: int, normalize: bool) -> None:
    mlp = sparse(experts, top_k, normalize=normalize, packed=True)
    x = tokens(37)
    found = mlp(x, None)
    assert torch.equal(found, one_by_one(mlp, x))
    assert torch.equal(mlp(x[11:14], None), found[11:14])


@pytest.mark.parametrize("count", [1, 2, 19])
@pytest.mark.parametrize(("experts", "top_k"), [(5, 2), (7, 3)])
def test_the_formula_on_a_gpu(experts: int, top_k: int, count: int) -> None:
    mlp, x = sparse(experts, top_k, device=DEVICE), tokens(count, DEVICE)
    expected = one_by_one(mlp, x)
    with only("gpu"):
        torch.testing.assert_close(mlp(x, None), expected, rtol=1e-5, atol=1e-5)


def test_no_tokens() -> None:
    assert sparse(5, 2)(tokens(0), None).shape == (0, HIDDEN)
    with only("gpu"):
        mlp = sparse(5, 2, device=DEVICE)
        assert mlp(tokens(0, DEVICE), None).shape == (0, HIDDEN)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_ties_and_what_is_not_finite_stay_in_their_row(name: str) -> None:
    device = DEVICE if name == "gpu" else torch.device("cpu")
    mlp, x = sparse(6, 2, device=device), tokens(9, device)
    with only(name):
        clean = mlp(x, None)
        x[2], x[5, 3], x[7] = 0.0, torch.nan, torch.inf
        found = mlp(x, None)
    assert found[2].tolist() == [0.0] * HIDDEN
    assert found[5].isnan().all()
    assert not found[7].isfinite().any()
    others = [0, 1, 3, 4, 6, 8]
    torch.testing.assert_close(found[others], clean[others], rtol=1e-5, atol=1e-5)


def test_a_row_keeps_its_bits_in_any_company() -> None:
    mlp, x = sparse(5, 2, device=DEVICE), tokens(9, DEVICE)
    prefer_invariant(True)
    try:
        with only("gpu"):
            whole = mlp(x, None)
            for rows in (slice(0, 1), slice(8, 9), slice(3, 6)):
                torch.testing.assert_close(mlp(x[rows], None), whole[rows], rtol=SAME, atol=SAME)
    finally:
        prefer_invariant(False)


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what has to wait for a GPU: sizes or numbers that are only known there."""

    NAMES = ("_local_scalar_dense", "nonzero", "bincount", "_unique2", "masked_select", "item")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert func.overloadpacket.__name__ not in self.NAMES, func
        return func(*args, **kwargs or {})


@contextmanager
def no_waiting() -> Iterator[None]:
    if not NATIVE:
        with Waits():  # type: ignore[no-untyped-call]
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("most", [8192, 2])
def test_nothing_waits_for_the_gpu(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "COUNTED_ROWS", most)
    mlp, x = sparse(5, 2, device=DEVICE), tokens(3, DEVICE)
    with only("gpu"):
        expected = mlp(x, None)
        with no_waiting():
            found = mlp(x, None)
    assert torch.equal(found, expected)
