"""The account of memory."""

from __future__ import annotations

import pytest

from inferd.errors import StartError
from inferd.ledger import Ledger, Need
from inferd.messages import MemoryUse

NEED = Need(weights=40, kv_cache=20, adapters=5, workspace=5, process=10)
ON_GPU = Need(weights=40, kv_cache=20, adapters=4, process=6, host=10)


def ledger(budget: int = 100) -> Ledger:
    return Ledger({"cpu": budget, "cuda:0": 100})


def test_what_is_held_is_not_free() -> None:
    account = ledger()
    held = account.reserve("a", "0", "cpu", NEED)
    assert (account.reserved("cpu"), account.free("cpu")) == (80, 20)
    assert account.free("cuda:0") == 100
    held.release()
    held.release()
    assert account.free("cpu") == 100
    account.check()


def test_too_much_is_refused_and_changes_nothing() -> None:
    account = ledger()
    account.reserve("a", "0", "cpu", NEED)
    with pytest.raises(
        StartError, match="b needs 80 B of cpu, which is 60 B more than is free"
    ) as e:
        account.reserve("b", "0", "cpu", NEED)
    assert (e.value.code, e.value.bytes_needed, e.value.bytes_free) == ("out_of_memory", 80, 20)
    assert account.owners == {"a"}


def test_a_device_without_a_budget_is_named() -> None:
    with pytest.raises(StartError, match="cuda:7") as e:
        ledger().reserve("a", "0", "cuda:7", NEED)
    assert e.value.hint == "Devices: cpu, cuda:0"


def test_what_was_measured_takes_the_place_of_the_estimate() -> None:
    account = ledger()
    held = account.reserve("a", "0", "cpu", NEED)
    before = held.loading
    held.settle(MemoryUse(weights=41, kv_cache=18, process=8, measured=67))
    assert (before, held.loading) == (True, False)
    assert held.need == Need(weights=41, kv_cache=18, adapters=5, workspace=5, process=8)
    line = account.snapshot().devices[0].holdings[0]
    assert (line.reserved, line.measured) == (77, 67)


def test_a_process_that_has_worked_keeps_some_of_its_workspace() -> None:
    held = ledger().reserve("a", "0", "cpu", NEED)
    held.settle(MemoryUse(process=8))
    held.settle(MemoryUse(process=12))
    assert (held.need.process, held.need.workspace) == (8, 5)
    held.settle(MemoryUse(process=20, adapters=7))
    assert (held.need.process, held.need.adapters) == (15, 7)


def test_more_than_was_reserved_is_told_and_leaves_nothing_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    account = ledger()
    held = account.reserve("a", "0", "cpu", NEED)
    held.settle(MemoryUse(weights=90))
    assert account.free("cpu") == -30
    assert "cpu: 30 B more are in use than the budget allows" in caplog.text
    with pytest.raises(StartError):
        account.reserve("b", "0", "cpu", Need(process=1))
    account.check()


def test_what_sleeps_takes_less_and_grows_again() -> None:
    account = ledger()
    held = account.reserve("a", "0", "cpu", NEED)
    held.settle(MemoryUse(weights=40, kv_cache=20, process=10, measured=70))
    held.shrink(MemoryUse(weights=40, process=11, measured=51))
    assert account.free("cpu") == 49
    other = account.reserve("b", "0", "cpu", Need(weights=30))
    with pytest.raises(StartError):
        account.reserve("a", "0", "cpu", NEED)
    asleep = held.asleep
    other.release()
    assert account.reserve("a", "0", "cpu", NEED) is held
    assert (asleep, held.asleep, held.loading) == (True, False, True)


def test_a_gpu_model_takes_of_the_host_too() -> None:
    account = ledger()
    held = account.reserve("a", "0", "cuda:0", ON_GPU)
    assert (account.reserved("cuda:0"), account.reserved("cpu")) == (70, 10)
    assert held.by_device == {"cuda:0": 70, "cpu": 10}
    with pytest.raises(StartError, match="of cpu"):
        account.reserve("b", "0", "cuda:0", Need(host=91))
    held.release()
    assert (account.reserved("cuda:0"), account.reserved("cpu")) == (0, 0)


def test_a_gpu_model_asleep_keeps_its_weights_on_the_host() -> None:
    account = ledger()
    held = account.reserve("a", "0", "cuda:0", ON_GPU)
    assert held.prepare_sleep()
    assert held.prepare_sleep()
    assert account.reserved("cpu") == 10 + 40 + 4  # before it moves
    held.shrink(MemoryUse(weights=40, process=6))
    assert (account.reserved("cuda:0"), account.reserved("cpu")) == (6, 50)
    account.reserve("a", "0", "cuda:0", ON_GPU)
    assert (account.reserved("cuda:0"), account.reserved("cpu")) == (70, 10)


def test_no_light_sleep_where_the_host_is_full() -> None:
    account = ledger(budget=50)
    held = account.reserve("a", "0", "cuda:0", ON_GPU)
    assert not held.prepare_sleep()
    assert account.reserved("cpu") == 10


def test_a_sleep_that_failed_gives_the_host_back() -> None:
    account = ledger()
    held = account.reserve("a", "0", "cuda:0", ON_GPU)
    assert held.prepare_sleep()
    held.cancel_sleep()
    assert account.reserved("cpu") == 10


def test_what_was_released_changes_nothing_any_more() -> None:
    account = ledger()
    held = account.reserve("a", "0", "cpu", NEED)
    held.release()
    held.settle(MemoryUse(weights=99))
    held.shrink(MemoryUse(weights=99))
    again = account.reserve("a", "0", "cpu", NEED)
    held.release()
    assert again.held
    assert account.free("cpu") == 20


def test_listeners_hear_of_every_change() -> None:
    account, heard = ledger(), []
    account.watch(lambda: heard.append(account.reserved("cpu")))
    held = account.reserve("a", "0", "cpu", NEED)
    held.settle(MemoryUse(process=12))
    held.release()
    assert heard == [80, 82, 0]


def test_what_is_about_to_change_is_told() -> None:
    account = ledger()

    def moving() -> bool:
        return account.snapshot().devices[0].holdings[0].moving

    held = account.reserve("a", "0", "cpu", NEED)
    seen = [moving()]
    held.settle(MemoryUse(process=10))
    seen.append(moving())
    held.prepare_sleep()
    seen.append(moving())
    held.cancel_sleep()
    seen.append(moving())
    held.prepare_sleep()
    held.shrink(MemoryUse(weights=40, process=10))
    seen.append(moving())
    account.reserve("a", "0", "cpu", NEED)
    seen.append(moving())
    assert seen == [True, False, True, False, False, True]
