"""An engine without HTTP: echo's core in virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inferd.bench.errors import BenchError
from inferd.bench.offline import (
    LatencyPlan,
    Run,
    Step,
    ThroughputPlan,
    bench_latency,
    bench_throughput,
    latency,
    load,
    run,
    throughput,
)
from inferd.bench.workload import Lengths
from inferd.engines.base import EngineSpec
from inferd.engines.echo import EchoCore
from inferd.engines.echo_options import parse
from inferd.messages import Sampling, Submit


class Time:
    """Passes only while the core sleeps: one step takes its `delay`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def core(options: str = "delay=0.5", **spec: Any) -> tuple[EchoCore, Time]:
    """Steps of half a second, each of which brings a token to all that run."""
    time = Time()
    model = f"echo:{options}"
    made = EchoCore(
        EngineSpec(engine="echo", model=model, **spec), parse(model), clock=time, sleep=time.sleep
    )
    return made, time


def test_throughput() -> None:
    """Two at once, so four sequences of three tokens take six steps."""
    echo, time = core(max_batch_size=2)
    plan = ThroughputPlan(num_prompts=4, lengths=Lengths(10, 3, prefix_len=6))
    found = bench_throughput(echo, plan, clock=time)
    assert found.duration_s == 3.0
    assert (found.completed, found.errors, found.steps) == (4, {}, 6)
    assert (found.prompt_tokens, found.output_tokens) == (64, 12)
    assert found.request_throughput == pytest.approx(4 / 3)
    assert found.output_throughput == 4.0
    assert found.total_token_throughput == pytest.approx(76 / 3)
    assert found.step_s.mean == 0.5


def test_latency() -> None:
    echo, time = core(max_batch_size=4)
    plan = LatencyPlan(batch_size=4, input_len=10, output_len=5, num_iters=3, num_warmups=1)
    found = bench_latency(echo, plan, clock=time)
    assert (found.latency_s.count, found.latency_s.mean) == (3, 2.5)
    assert (found.prefill_s.mean, found.prefill_throughput.mean) == (0.5, 80.0)
    assert (found.decode_step_s.count, found.decode_step_s.mean) == (12, 0.5)
    assert found.decode_throughput.mean == 8.0


def test_a_reply_of_one_token_has_no_decode() -> None:
    echo, time = core()
    plan = LatencyPlan(batch_size=2, input_len=4, output_len=1, num_iters=1, num_warmups=0)
    found = bench_latency(echo, plan, clock=time)
    assert found.prefill_s.mean == 0.5
    assert found.decode_step_s.count == found.decode_throughput.count == 0


def test_prefill_ends_with_the_last_first_token() -> None:
    """The second sequence's prompt took a step more; the first one's second token came with it."""
    steps = (Step(2.0, 1, 1), Step(4.0, 2, 1), Step(1.0, 2, 0), Step(0.5, 1, 0))
    found = latency([Run(7.5, steps, 60, 6, 0, 2, {}, {})], 2)
    assert (found.prefill_s.mean, found.prefill_throughput.mean) == (6.0, 10.0)
    assert found.decode_step_s.mean == 0.75
    assert found.decode_throughput.mean == 2.0


def test_failures_are_counted_by_code() -> None:
    echo, time = core(max_queue_requests=1, max_batch_size=1)
    submits = [Submit(str(i), (1, 2), 2, Sampling()) for i in range(4)]
    done = run(echo, submits, clock=time)
    assert (done.finished, done.failures) == (2, {"overloaded": 2})
    found = throughput(done)
    assert found.errors == {"overloaded": 2}
    assert "waiting" in found.error_messages["overloaded"]
    with pytest.raises(BenchError, match="a sequence failed"):
        latency([done], 4)


def test_where_everything_fails() -> None:
    echo, time = core("fail_token=1,vocab_size=2")
    done = run(echo, [Submit("a", (1,), 2, Sampling())], clock=time)
    with pytest.raises(BenchError, match="every sequence failed"):
        throughput(done)


@pytest.mark.parametrize(
    ("options", "plan", "words"),
    [
        ("max_model_len=20", {}, "--input-len 16 and --output-len 5 exceed the model's 20 tokens"),
        ("blocks=15", {}, "--batch-size 8: .* 15 blocks, the batch needs 16; --kv-cache-bytes"),
    ],
)
def test_batches_that_do_not_fit(options: str, plan: dict[str, Any], words: str) -> None:
    echo, time = core(options)
    asked = LatencyPlan(batch_size=8, input_len=16, output_len=5, **plan)
    with pytest.raises(BenchError, match=words):
        bench_latency(echo, asked, clock=time)


def test_the_seed_makes_the_prompts() -> None:
    class Noting(EchoCore):
        def submit(self, submit: Submit) -> Any:
            prompts.append(submit.prompt)
            return super().submit(submit)

    runs = []
    for seed in (1, 1, 2):
        prompts: list[tuple[int, ...]] = []
        echo = Noting(EngineSpec(engine="echo"), parse("echo:"), clock=Time())
        plan = ThroughputPlan(num_prompts=3, lengths=Lengths(8, 2, 0.5), seed=seed)
        bench_throughput(echo, plan)
        bench_latency(echo, replace(LatencyPlan(num_iters=1), seed=seed))
        runs.append(prompts)
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) == len(runs[0])  # no prompt twice, so no cache helps


def test_an_engine_is_loaded_by_name() -> None:
    echo = load(EngineSpec(engine="echo"), lambda progress: None)
    assert echo.info.engine == "echo"
    echo.close()
