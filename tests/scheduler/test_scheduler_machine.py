"""A state machine over the whole scheduler: any operations in any order, checked after each."""

from __future__ import annotations

from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from inferd_scheduler import Refused, Request, SchedulerConfig
from tests.scheduler.harness import Harness

CONFIGS = st.builds(
    SchedulerConfig,
    max_batch_size=st.integers(1, 4),
    max_batch_tokens=st.integers(4, 12),
    num_blocks=st.integers(3, 14),
    block_size=st.sampled_from([1, 2, 3]),
    max_model_len=st.integers(4, 30),
    policy=st.sampled_from(["fcfs", "priority", "fair"]),
    max_queue_requests=st.sampled_from([3, 100]),
    max_queue_tokens=st.sampled_from([20, 1000]),
    prefix_cache=st.booleans(),
    max_adapters=st.integers(0, 3),
    adapter_turn=st.sampled_from([0, 4]),
)
# Two token ids, two salts and few adapters, so that prefixes are shared by chance and by mistake.
ADAPTERS = st.sampled_from(["", "p", "q", "r", "t"])
PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=14)


class SchedulerMachine(RuleBasedStateMachine):
    """The engine behind it compares every KV slot that is read with what should be there."""

    @initialize(config=CONFIGS, depth=st.sampled_from([1, 2]))
    def start(self, config: SchedulerConfig, depth: int) -> None:
        self.harness = Harness(config, depth)
        self.numbers = count()

    @rule(
        prompt=PROMPTS,
        given=st.integers(0, 4),
        max_tokens=st.integers(1, 14),
        stops=st.sets(st.integers(0, 49), max_size=4),
        min_tokens=st.integers(0, 3),
        caller=st.sampled_from("xy"),
        priority=st.integers(0, 2),
        salt=st.sampled_from(["", "s"]),
        adapter=ADAPTERS,
        reuse=st.booleans(),
    )
    def submit(
        self,
        prompt: list[int],
        given: int,
        max_tokens: int,
        stops: set[int],
        min_tokens: int,
        caller: str,
        priority: int,
        salt: str,
        adapter: str,
        reuse: bool,
    ) -> None:
        request = Request(
            f"r{next(self.numbers)}",
            prompt,
            max_tokens,
            output=[0] * given,
            stop_token_ids=stops - {0},
            caller=caller,
            priority=priority,
            salt=salt,
            adapter=adapter,
            reuse_prefix=reuse,
            min_tokens=min_tokens,
        )
        before = self.harness.scheduler.stats()
        try:
            self.harness.submit(request)
        except Refused:
            assert self.harness.scheduler.stats() == before
            self.harness.scheduler.check()

    @precondition(lambda self: self.harness.open)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        self.harness.abort(data.draw(st.sampled_from(self.harness.open)))

    @rule(adapter=ADAPTERS)
    def forget(self, adapter: str) -> None:
        scheduler = self.harness.scheduler
        before = scheduler.adapter_slots
        forgotten = scheduler.forget_adapter(adapter)
        assert forgotten or adapter in before
        left = {name: slot for name, slot in before.items() if not forgotten or name != adapter}
        assert scheduler.adapter_slots == left
        scheduler.check()

    @precondition(lambda self: len(self.harness.flights) < self.harness.depth)
    @rule()
    def plan(self) -> None:
        waited, ahead = self.harness.scheduler.has_work, self.harness.flight is not None
        step = self.harness.plan()
        assert (step is not None) == waited or ahead
        assert step is None or not (ahead and step.preempted)

    @precondition(lambda self: self.harness.flight is not None)
    @rule()
    def commit(self) -> None:
        self.harness.commit()

    @precondition(lambda self: len(self.harness.flights) < 2)
    @rule(steps=st.integers(1, 6))
    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.harness.step()

    @precondition(lambda self: self.harness.flight is not None)
    @rule(data=st.data())
    def commit_with_a_fault(self, data: st.DataObject) -> None:
        assert self.harness.flight is not None
        victim = data.draw(st.sampled_from(self.harness.flight.works)).request_id
        self.harness.commit(failing=[victim])

    def teardown(self) -> None:
        if not hasattr(self, "harness"):
            return
        self.harness.run()


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
