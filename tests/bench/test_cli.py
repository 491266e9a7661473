"""`inferd bench` as a person meets it."""

from __future__ import annotations

import gc
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from inferd.cli import main
from inferd.engines.process import child_environment
from tests.web.site_under_test import Site

ECHO = "--engine=echo:delay=0.0"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own; what benchmarks change in their process is taken back."""
    monkeypatch.chdir(tmp_path)
    for name, value in child_environment(os.environ).items():
        monkeypatch.setenv(name, value)
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def bench(*args: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["bench", *args], env={"COLUMNS": "120"})
    assert result.exit_code == exit_code, result.output
    return result


def serve(site: Site, *args: str) -> str:
    sizes = ("--num-prompts", "6", "--input-len", "40", "--output-len", "5")
    return bench("serve", "--base-url", site.url, *sizes, *args).output


@pytest.mark.parametrize("name", ["serve", "throughput", "latency", "startup"])
def test_every_benchmark_has_help(name: str) -> None:
    assert bench(name, "--help").output.startswith(f"Usage: inferd bench {name} ")


def test_serve_says_what_it_found(site: Site) -> None:
    output = serve(site, "--concurrency", "2", "--goodput", "ttft:60000 itl:60000")
    assert re.search(r"Successful requests +│ 6 ", output)
    assert re.search(r"Output tokens +│ 30 ", output)
    assert "Request goodput (req/s)" in output
    assert re.search(r"│ TTFT \(ms\) +│", output)
    assert "from schedule" not in output  # a closed loop has none
    assert "P99" in output


def test_replies_of_one_token_have_no_time_between_tokens(site: Site) -> None:
    output = serve(site, "--output-len", "1")
    assert re.search(r"│ TTFT \(ms\) ", output)
    assert "TPOT" not in output
    assert "ITL" not in output


def test_an_open_loop_has_latencies_from_the_schedule(site: Site) -> None:
    output = serve(site, "--request-rate", "1000", "--percentile-metrics", "ttft,tpot")
    assert "TTFT from schedule (ms)" in output
    assert "lateness" in output
    assert "E2EL" not in output


def test_serve_writes_everything(site: Site, tmp_path: Path) -> None:
    options = ("--output", "a.json", "--plot", "a.svg", "--save-detailed", "--api-key", "secret")
    output = serve(site, *options, "--metric-percentiles", "25,99.9")
    assert "Wrote a.json" in output
    saved = json.loads((tmp_path / "a.json").read_text())
    assert saved["benchmark"] == "serve"
    assert {"date", "commit", "inferd", "torch"} <= saved["environment"].keys()
    assert {"cpu", "cores", "load_1min", "python"} <= saved["environment"]["machine"].keys()
    assert saved["config"]["lengths"]["input_len"] == 40
    assert saved["config"]["request_rate"] == "inf"
    assert "secret" not in (tmp_path / "a.json").read_text()
    assert saved["model"] == "echo"
    assert saved["results"]["completed"] == 6
    percents = [percent for percent, _ in saved["results"]["latencies"]["ttft"]["percentiles"]]
    assert percents == [25.0, 50.0, 99.9]
    assert len(saved["requests"]) == 6
    assert len(saved["requests"][0]["arrivals"]) == 5
    ElementTree.parse(tmp_path / "a.svg")


def test_a_result_names_itself(site: Site, tmp_path: Path) -> None:
    serve(site, "--save-result")
    (file,) = tmp_path.iterdir()
    assert re.fullmatch(r"inferd-bench-serve-\d{8}-\d{6}\.json", file.name)
    assert "requests" not in json.loads(file.read_text())


def test_where_nothing_succeeds(site: Site, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "abc", "output_tokens": 9000}')
    args = ("--base-url", site.url, "--dataset-path", "p.jsonl", "--num-warmups", "0")
    output = bench("serve", *args, exit_code=1).output
    assert "1 failed: http_400: " in output
    assert "no request ended well" in output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("srve", "there is no command 'bench srve'\n  Did you mean serve?"),
        ("serve --request-rate 0", "'--request-rate'"),
        ("serve --request-rate nan", "'--request-rate'"),
        ("serve --burstiness inf", "'--burstiness'"),
        ("serve --num-prompts 0", "'--num-prompts'"),
        ("serve --input-len many", "'--input-len'"),
        ("serve --range-ratio 1", "'--range-ratio'"),
        ("serve --extra-body [1]", "'--extra-body': it is not a JSON object"),
        ("serve --extra-body {", "'--extra-body': it is not JSON"),
        ("serve --goodput tft:3", "'tft:3': there is no metric 'tft'"),
        ("serve --percentile-metrics ttft,lag", "there is no 'lag'; there are ttft, tpot"),
        ("serve --metric-percentiles 50,101", "'50,101' is not a list of percents"),
        ("serve --base-url nowhere", "--base-url: 'nowhere' is not the URL of a server"),
        ("serve --endpoint /v1/embeddings", "--endpoint /v1/embeddings: it must be a path"),
        ("latency --batch-size 0", "'--batch-size'"),
        ("latency --max-bach-size 3", "Did you mean --max-batch-size?"),
        ("throughput --dtype float3", "--dtype"),
        ("startup --num-iters 0", "'--num-iters'"),
    ],
)
def test_wrong_usage_names_the_option(args: str, words: str) -> None:
    assert words in bench(*args.split(), exit_code=2).output


def test_nobody_listens() -> None:
    output = bench("serve", "--base-url", "http://127.0.0.1:9", exit_code=1).output
    assert "Error: cannot connect to 127.0.0.1:9" in output


@pytest.mark.parametrize("option", ["--output", "--plot"])
def test_results_that_cannot_be_written_are_refused_before_anything_is_measured(
    option: str,
) -> None:
    args = ("--base-url", "http://127.0.0.1:9", option, "no/where.json")
    output = bench("serve", *args, exit_code=2).output
    assert f"Invalid value for '{option}'" in output
    assert "there is no folder no" in output


def offline(name: str, *args: str) -> dict[str, Any]:
    bench(name, ECHO, "--output", "a.json", *args)
    saved: dict[str, Any] = json.loads(Path("a.json").read_text())
    assert saved["benchmark"] == name
    assert saved["engine"]["engine"] == "echo"
    return saved


def test_throughput() -> None:
    saved = offline("throughput", "--num-prompts", "5", "--input-len", "8", "--output-len", "4")
    assert saved["results"]["completed"] == 5
    assert saved["results"]["output_tokens"] == 20
    assert saved["config"]["lengths"]["input_len"] == 8


def test_latency() -> None:
    """A batch larger than an engine's usual one is one batch all the same."""
    args = ("--batch-size", "70", "--input-len", "4", "--output-len", "3")
    saved = offline("latency", *args, "--num-iters", "2", "--num-warmups", "0", "--seed", "5")
    assert saved["results"]["latency_s"]["count"] == 2
    assert saved["results"]["decode_step_s"]["count"] == 4
    assert saved["engine_spec"]["max_batch_size"] == 70
    assert saved["config"]["seed"] == 5


def test_a_batch_that_is_too_long() -> None:
    output = bench("latency", ECHO, "--input-len", "5000", exit_code=1).output
    assert "Error: --input-len 5000 and --output-len 128 exceed" in output


def test_startup() -> None:
    """A daemon of its own, with the echo engine, which loads no weights."""
    args = (ECHO.replace("0.0", "0.0,vocab_size=4096"), "--num-iters", "1", "--num-warmups", "0")
    output = bench("startup", *args, "--output", "a.json").output
    assert "→ first token (s)" in output
    saved = json.loads(Path("a.json").read_text())
    (start,) = saved["results"]["starts"]
    assert {"daemon", "warm-up", "first token"} <= start["phases"].keys()
    assert sum(start["phases"].values()) == pytest.approx(start["first_token_s"])


def test_a_daemon_that_does_not_start() -> None:
    args = ("--engine=echo:start=fail", "--num-iters", "1", "--num-warmups", "0")
    output = bench("startup", *args, exit_code=1).output
    assert "did not become ready" in output
    assert "2 GiB" in output
