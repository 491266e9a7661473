"""`inferd deploy`: what is sent, and what a person reads of the replies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inferd.cli import main
from inferd.errors import StartError
from tests.web.hub_of_one import MODEL
from tests.web.site_under_test import Site


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


def deploy(site: Site, *args: str) -> Result:
    return CliRunner().invoke(main, ["deploy", *args], env={"INFERD_URL": site.url})


def done(site: Site, *args: str) -> str:
    """What is printed by a command that succeeds."""
    result = deploy(site, *args)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_model_comes_and_goes(site: Site) -> None:
    assert "There is no deployment" in done(site, "list")
    assert f"{MODEL} runs on cpu" in done(site, "create", MODEL)
    heading, row = done(site, "list").splitlines()
    assert heading.split()[:3] == ["NAME", "ID", "STATUS"]
    deploy_id = row.split()[1]
    assert row.split() == [MODEL, deploy_id, "running", "1", "(1-1)", "cpu", "0", MODEL]
    assert done(site, "stop", MODEL) == f"{MODEL} is stopped\n"
    assert "runs on cpu" in done(site, "start", deploy_id)
    assert done(site, "delete", f"deploy_id:{deploy_id}") == f"{MODEL} is deleted\n"
    assert "There is no deployment" in done(site, "list")


def test_all_that_is_asked_for_is_sent(site: Site) -> None:
    options = {
        "--name": "mine",
        "--revision": "main",
        "--hf-token": "hf_secret",
        "--min-instances": "0",
        "--max-instances": "3",
        "--max-batch-size": "7",
        "--max-model-len": "99",
        "--kv-cache-bytes": "2MiB",
        "--max-adapters": "5",
        "--idle-timeout": "60",
    }
    done(site, "create", MODEL, *(word for pair in options.items() for word in pair))
    (status,) = site.deployments.list()
    spec = status.spec
    assert (spec.model_name, spec.model, spec.revision) == ("mine", MODEL, "main")
    assert (spec.min_instances, spec.max_instances, spec.max_batch_size) == (0, 3, 7)
    assert (spec.max_model_len, spec.kv_cache_bytes) == (99, 2 * 2**20)
    assert (spec.max_adapters, spec.idle_timeout) == (5, 60)
    assert site.hub.fetched == [(MODEL, "main", "hf_secret")]


def test_a_folder_is_named_as_the_daemon_sees_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "mine runs" in done(site, "create", "./mine")
    (status,) = site.deployments.list()
    assert status.spec.model == str((tmp_path / "mine").resolve())


def test_why_it_failed(site: Site) -> None:
    result = deploy(site, "create", "org/nothing")
    assert result.exit_code == 1
    assert "org/nothing failed: There is no org/nothing" in result.stderr
    assert "Name another." in result.stderr
    assert "There is no org/nothing" in done(site, "list")


def test_progress_is_shown_while_it_comes(site: Site) -> None:
    site.hub.fetching.open.clear()
    assert "is deployed as" in done(site, "create", MODEL, "--no-wait")
    assert site.hub.fetching.reached.wait(30)
    shown = done(site, "show", MODEL)
    assert "downloading, 50 % of 10 B" in shown
    site.hub.fetching.error = StartError("not_found", "The hub is away")
    site.hub.fetching.open.set()
    site.run(_moved(site))
    assert "The hub is away" in done(site, "show", MODEL)
    site.hub.fetching.error = None
    assert f"{MODEL} runs" in done(site, "start", MODEL)


async def _moved(site: Site) -> None:
    entry, _ = site.registry.find(MODEL)
    while entry.state != "failed":
        await entry.moved()


def test_only_what_is_named_changes(site: Site) -> None:
    done(site, "create", MODEL, "--min-instances", "0", "--max-instances", "2")
    assert done(site, "update", MODEL, "--max-instances", "3") == f"{MODEL}: 0 to 3 instances\n"
    said = done(site, "update", MODEL, "--replaced-by", "echo")
    assert said == f"{MODEL}: 0 to 3 instances, replaced by echo\n"
    assert "replaced by  echo" in done(site, "show", MODEL)
    assert done(site, "update", MODEL, "--replaced-by", "") == f"{MODEL}: 0 to 3 instances\n"
    wrong = deploy(site, "update", MODEL, "--min-instances", "4")
    assert wrong.exit_code == 1
    assert "min_instances" in wrong.stderr


def test_stats(site: Site) -> None:
    done(site, "create", MODEL)
    counts = site.tally.of(MODEL)
    counts.requests, counts.prompt_tokens, counts.completion_tokens = 3, 20, 10
    last = done(site, "stats", MODEL, "--from", "now-5h").splitlines()[-1]
    assert last.split() == ["all", "3", "0", "20", "10"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("show nothing", "there is no deployment 'nothing'"),
        ("show org/modle", "Did you mean org/model?"),
        ("creat x", "there is no command 'deploy creat'\n  Did you mean create?"),
        ("create org/model --kv-cache-bytes much", "--kv-cache-bytes"),
        ("create org/model", "already"),
        ("list --status flying", "flying"),
    ],
)
def test_what_is_wrong_is_said_plainly(site: Site, args: str, words: str) -> None:
    done(site, "create", MODEL)
    result = deploy(site, *args.split())
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert "Traceback" not in result.output
