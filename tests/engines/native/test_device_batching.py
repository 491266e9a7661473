"""The device's batcher makes the batches that the host's does, whatever comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest
import torch

from inferd.engines.native.batching import Batcher, KVCache, allocate_kv
from inferd.engines.native.device_batching import SCRATCH_BLOCKS, DeviceBatcher
from inferd.engines.native.model import Batch
from inferd_scheduler import UNKNOWN, Request, Result, Scheduler, SchedulerConfig, Step, Work
from tests.engines.native.hash_model import HashModel
from tests.kernels.gpu_device import DEVICE

ROWS, BLOCKS, SIZE, TOKENS = 4, 24, 4, 20
LONGEST = 40  # tokens of context
CONFIG = SchedulerConfig(
    max_batch_size=ROWS,
    max_batch_tokens=TOKENS,
    num_blocks=BLOCKS,
    block_size=SIZE,
    max_model_len=LONGEST,
    max_adapters=2,
)
FIELDS = ("input_ids", "positions", "slot_mapping", "cu_seqlens_q", "seq_lens")


def cache(device: torch.device = DEVICE) -> KVCache:
    model = HashModel()
    return allocate_kv(model.kv_specs, BLOCKS + SCRATCH_BLOCKS, SIZE, model.dtype, device)


def device_batcher() -> DeviceBatcher:
    return DeviceBatcher(cache(), SIZE, ROWS, LONGEST // SIZE, TOKENS)


def host_batcher() -> Batcher:
    return Batcher(cache(torch.device("cpu")), SIZE, ROWS, LONGEST // SIZE, TOKENS)


def request(name: str, random: Random, shared: tuple[int, ...]) -> Request:
    prompt = shared[: random.randrange(len(shared))]
    prompt += tuple(random.randrange(50) for _ in range(random.randrange(1, 15)))
    return Request(
        name, prompt, random.randrange(1, 12), adapter=random.choice(["", "", "one", "two"])
    )


def schedule(seed: int, steps: int = 150) -> Iterator[tuple[Step, list[int | None]]]:
    """Steps of a scheduler under pressure, with their tokens: admissions that reuse prefixes,
    chunks, preemptions, aborts, ends."""
    random, scheduler = Random(seed), Scheduler(CONFIG)
    shared = tuple(random.randrange(50) for _ in range(12))
    names: list[str] = []
    for number in range(steps):
        while random.random() < 0.4:
            names.append(f"r{len(names)}")
            scheduler.submit(request(names[-1], random, shared), float(number))
        if random.random() < 0.1 and names:
            scheduler.abort(random.choice(names), float(number))
        step = scheduler.plan(float(number))
        if step is not None:
            tokens = [random.randrange(50) if work.samples else None for work in step.works]
            scheduler.commit(step, Result(tokens), float(number))
            yield step, tokens


def unknown(step: Step, before: dict[str, int]) -> Step:
    """The step as it is planned before what `before` says was known: tokens by request."""
    works = [
        work._replace(tokens=(UNKNOWN,)) if work.tokens == (before.get(work.request_id),) else work
        for work in step.works
    ]
    return replace(step, works=works)


def assert_same(found: Batch, expected: Batch) -> None:
    for name in FIELDS:
        mine, other = getattr(found, name), getattr(expected, name)
        assert mine.dtype == other.dtype, name
        assert mine.tolist() == other.tolist(), name
    for b, length in enumerate(expected.seq_lens.tolist()):
        used = -(-length // SIZE)
        mine, other = found.block_tables[b, :used], expected.block_tables[b, :used]
        assert mine.tolist() == other.tolist()
    assert found.max_seqlen_q == expected.max_seqlen_q
    assert found.max_seqlen_k == expected.max_seqlen_k
    assert (found.segments is None) == (expected.segments is None)


def poison(device: DeviceBatcher) -> None:
    """What a step does not fill is nothing that a step may read."""
    for name in (*FIELDS, "row_slots", "block_tables"):
        getattr(device._inputs, name).fill_(10**6)
    for buffer in device._staging._hosts:
        buffer.fill_(10**6)
    device._staging._words.fill_(10**6)


def row_slots(step: Step) -> list[int]:
    return [work.slot for work in step.works for _ in work.tokens]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_the_host_s(seed: int, ahead: bool) -> None:
    host, device = host_batcher(), device_batcher()
    device.padded = lambda count: min(ROWS, count + count % 2)
    before: dict[str, int] = {}
    seen = {"late": 0, "mixed": 0, "again": 0}
    rows_seen: set[int] = set()
    for step, tokens in schedule(seed):
        planned = unknown(step, before) if ahead else step
        seen["late"] += sum(work.tokens == (UNKNOWN,) for work in planned.works)
        seen["mixed"] += len({len(work.tokens) for work in step.works}) > 1
        seen["again"] += sum(work.first and work.row in rows_seen for work in step.works)
        rows_seen |= {work.row for work in step.works}
        poison(device)
        found = device.build(planned)
        assert_same(found, host.build(step))
        if found.segments is not None:
            assert found.segments.row_slots is not None
            assert found.segments.row_slots.tolist() == row_slots(step)
        before = tell(device, step, tokens, Random(step.number))
    assert seen["mixed"]
    assert seen["again"]
    assert bool(seen["late"]) == ahead


def tell(
    device: DeviceBatcher, step: Step, tokens: Sequence[int | None], random: Random
) -> dict[str, int]:
    """Give the batcher what the step sampled, in any order and in parts; tokens by request."""
    found = [(w, t) for w, t in zip(step.works, tokens, strict=True) if t is not None]
    random.shuffle(found)
    cut = random.randrange(len(found) + 1)
    for part in (found[:cut], found[cut:]):
        ids = torch.tensor([token for _, token in part], dtype=torch.int64, device=DEVICE)
        device.sampled([work.row for work, _ in part], ids)
    return {work.request_id: token for work, token in found}


def step_of(*works: Work) -> Step:
    return Step(1, works, sum(len(work.tokens) for work in works))


def test_tensors_lie_where_they_lay() -> None:
    device = device_batcher()
    addresses = set()
    for step, _ in schedule(5, 40):
        batch = device.build(step)
        addresses.add(tuple(getattr(batch, name).data_ptr() for name in (*FIELDS, "block_tables")))
    assert len(addresses) == 1


def test_padding_rows_write_to_the_scratch_block_and_read_one_slot() -> None:
    device = device_batcher()
    device.padded = lambda count: 4
    device.build(step_of(Work("a", 2, 0, (5, 6, 7), (9,), True, True, 1)))
    batch = device.build(step_of(Work("a", 2, 3, (8,), (), True, False, 1)))
    assert batch.seq_lens.tolist() == [4]
    padded = device.rows(4, 64, adapters=True)
    assert padded.input_ids.tolist() == [8, 0, 0, 0]
    assert padded.seq_lens.tolist() == [4, 1, 1, 1]
    assert padded.slot_mapping.tolist() == [9 * SIZE + 3] + [BLOCKS * SIZE] * 3
    assert padded.block_tables[:, 0].tolist() == [9, BLOCKS, BLOCKS, BLOCKS]
    assert padded.cu_seqlens_q.tolist() == [0, 1, 2, 3, 4]
    assert padded.segments is not None
    assert padded.segments.row_slots is not None
    assert padded.segments.row_slots.tolist() == [1, -1, -1, -1]
    assert padded.max_seqlen_k == 64
    again = device.build(step_of(Work("a", 2, 4, (8,), (3,), True, False)))
    assert again.block_tables[0, :2].tolist() == [9, 3], "padding rows have no row of the tables"


def test_idle_rows_are_nobody_s() -> None:
    device = device_batcher()
    device.build(step_of(Work("a", 0, 0, (5, 6, 7), (9,), True, True)))
    device.build_idle(3)
    assert device.rows(3, 16, adapters=False).slot_mapping.tolist() == [BLOCKS * SIZE] * 3
    batch = device.build(step_of(Work("a", 0, 3, (8,), (), True, False)))
    assert batch.slot_mapping.tolist() == [9 * SIZE + 3]


def test_a_row_that_sampled_nothing_has_any_token() -> None:
    """Its sequence failed while the next step was in flight: what comes of it is dropped."""
    device = device_batcher()
    works = [Work("a", 0, 0, (5,), (1,), True, True), Work("b", 1, 0, (6,), (2,), True, True)]
    device.build(step_of(*works))
    device.sampled([1], torch.tensor([-7], device=DEVICE))
    late = [work._replace(start=1, tokens=(UNKNOWN,), new_blocks=(), first=False) for work in works]
    assert device.build(step_of(*late)).input_ids.tolist() == [0, 0]


def ids(*tokens: int) -> torch.Tensor:
    return torch.tensor(tokens, device=DEVICE)


def later(work: Work) -> Work:
    """The one after it, whose token is not known."""
    start = work.start + len(work.tokens)
    return work._replace(start=start, tokens=(UNKNOWN,), new_blocks=(), first=False)


def test_tokens_that_come_one_by_one() -> None:
    """As they do where choosing them together failed."""
    device = device_batcher()
    works = [Work(name, row, 0, (5,), (row,), True, True) for row, name in enumerate("abc")]
    device.build(step_of(*works))
    for work in reversed(works):
        device.sampled([work.row], ids(20 + work.row))
    assert device.build(step_of(*map(later, works))).input_ids.tolist() == [20, 21, 22]


def test_tokens_of_the_step_before_the_last_are_forgotten() -> None:
    device = device_batcher()
    works = [Work("a", 0, 0, (5,), (1,), True, True), Work("b", 1, 0, (6,), (2,), True, True)]
    device.build(step_of(*works))
    device.sampled([0, 1], ids(20, 21))
    device.build(step_of(*map(later, works)))
    device.sampled([0], ids(30))
    batch = device.build(step_of(*(later(later(work)) for work in works)))
    assert batch.input_ids.tolist()[0] == 30


def test_unknown_tokens_stand_behind_a_prompt_s_too() -> None:
    device = device_batcher()
    one = Work("a", 0, 0, (5,), (1,), True, True)
    device.build(step_of(one))
    device.sampled([0], ids(20))
    prompt = Work("b", 1, 0, (7, 8, 9), (2,), True, True)
    assert device.build(step_of(prompt, later(one))).input_ids.tolist() == [7, 8, 9, 20]


def test_only_steps_of_one_token_each_are_padded() -> None:
    """A largest step of prompts has no room for more rows."""
    device = device_batcher()
    device.padded = lambda count: ROWS
    poison(device)
    prompt = Work("a", 0, 0, (7,) * TOKENS, tuple(range(TOKENS // SIZE)), True, True)
    assert device.build(step_of(prompt)).input_ids.tolist() == [7] * TOKENS
    assert device.rows(ROWS, TOKENS, adapters=False).seq_lens.tolist()[1:] == [10**6] * (ROWS - 1)


def test_a_token_without_a_block_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        device_batcher().build(step_of(Work("a", 0, 0, (1,) * 5, (7,), False, True)))


def test_a_step_larger_than_the_staging_memory() -> None:
    model = HashModel()
    kv_cache = allocate_kv(model.kv_specs, 3000, 1, model.dtype, DEVICE)
    device = DeviceBatcher(kv_cache, 1, 1, 2990, 2)
    table = tuple(range(2980, 0, -1))
    batch = device.build(step_of(Work("a", 0, 2970, (4, 5), table, True, True)))
    assert batch.block_tables[0, :2972].tolist() == list(table[:2972])
    assert batch.slot_mapping.tolist() == [table[2970], table[2971]]
