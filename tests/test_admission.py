"""Permits: the bound, the refusals, draining."""

from __future__ import annotations

import asyncio

import pytest

from inferd.admission import Admission
from inferd.errors import BusyError, Unavailable

pytestmark = pytest.mark.anyio


async def test_permits_are_counted_and_returned() -> None:
    admission = Admission(4)
    with admission.permit(3):
        assert admission.in_flight == 3
        with pytest.raises(BusyError) as caught, admission.permit(2):
            pass
        assert caught.value.status == 429
        assert caught.value.retry_after
        with admission.permit():
            assert admission.in_flight == 4
    assert admission.in_flight == 0


async def test_a_request_above_the_limit_passes_alone() -> None:
    admission = Admission(2)
    with admission.permit(5), pytest.raises(BusyError), admission.permit():
        pass
    assert admission.in_flight == 0


async def test_a_permit_returns_when_its_holder_fails() -> None:
    admission = Admission()
    with pytest.raises(KeyError), admission.permit(2):
        raise KeyError
    assert admission.in_flight == 0


async def test_draining_refuses_the_new_and_waits_for_the_old() -> None:
    admission = Admission()
    with admission.permit():
        admission.begin_drain()
        assert admission.draining
        with pytest.raises(Unavailable) as caught, admission.permit():
            pass
        assert caught.value.status == 503
        assert not await admission.drained(0.0)
        waiter = asyncio.create_task(admission.drained(60.0))
        await asyncio.sleep(0)
        assert not waiter.done()
    assert await waiter


async def test_nothing_in_flight_is_drained_at_once() -> None:
    assert await Admission().drained(0.0)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        Admission(0)
