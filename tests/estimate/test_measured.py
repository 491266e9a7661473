"""What a child process takes is what was reserved for it, within a tenth."""

from __future__ import annotations

import pytest

from inferd import demo
from inferd.engines.base import EngineSpec
from inferd.engines.host import HostEngine
from inferd.estimate import estimate
from inferd.ledger import HOST, Ledger
from inferd.messages import Sampling, Submit

pytestmark = pytest.mark.anyio

SPEC = EngineSpec(
    model=str(demo.path()),
    device="cpu",
    kv_cache_bytes=128 << 20,
    max_batch_tokens=512,
    max_adapters=0,
)


async def test_a_model_at_work_and_asleep() -> None:
    found = estimate(SPEC, {HOST: 8 << 30}).fitting()
    ledger = Ledger({HOST: 8 << 30})
    held = ledger.reserve("demo", "0", HOST, found.need)
    engine = HostEngine(found.spec)
    try:
        first = (await engine.start(lambda progress: None)).memory
        assert (first.weights, first.kv_cache) == (found.need.weights, found.need.kv_cache)
        assert found.need.total == pytest.approx(first.measured, rel=0.1)
        held.settle(first)

        long = Submit("a", tuple(range(10, 510)), 4, Sampling())
        async with engine.stream(long) as events:
            async for _ in events:
                pass
        held.shrink(await engine.sleep(1))
        assert ledger.reserved(HOST) == held.need.total
        line = ledger.snapshot().devices[0].holdings[0]
        assert line.reserved == pytest.approx(line.measured, rel=0.1)
        assert line.reserved < found.need.total - (120 << 20)

        held = ledger.reserve("demo", "0", HOST, found.need)
        held.settle(await engine.wake())
        line = ledger.snapshot().devices[0].holdings[0]
        assert line.reserved == pytest.approx(line.measured, rel=0.1)
    finally:
        await engine.close()
