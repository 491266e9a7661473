"""`inferd adapters`, against a live server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inferd.adapters.entry import Lease
from inferd.cli import main
from tests.web.adapter_folders import write_adapter
from tests.web.site_under_test import Site


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters `a` and `b` in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        write_adapter(tmp_path / name, name.upper())


def adapters(site: Site, *args: str) -> Result:
    return CliRunner().invoke(main, ["adapters", *args], env={"INFERD_URL": site.url})


def ok(site: Site, *args: str) -> str:
    result = adapters(site, *args)
    assert result.exit_code == 0, result.output
    return result.output


def says(site: Site, model: str) -> str:
    body = {"model": model, "prompt": "x", "max_tokens": 1}
    return str(site.http.post("/v1/completions", json=body).json()["choices"][0]["text"])


async def pin(site: Site) -> Lease:
    return site.adapters.pin("pirate")


def test_an_adapters_life(site: Site) -> None:
    assert "No adapter is loaded" in ok(site, "list")
    assert "pirate is loaded: generation " in ok(site, "load", "pirate", "./a")
    assert says(site, "pirate") == "A"
    assert "pirate is replaced" in ok(site, "swap", "pirate", "b")  # a folder without a dot, too
    assert says(site, "pirate") == "B"
    assert "pirate is rolled back" in ok(site, "rollback", "pirate")
    assert says(site, "pirate") == "A"
    assert ok(site, "unload", "pirate", "--wait") == "pirate is unloaded\n"
    assert "No adapter is loaded" in ok(site, "list")


def test_the_table(site: Site) -> None:
    ok(site, "load", "pirate", "./a", "--base", "echo")
    ok(site, "canary", "pirate", "./b", "--percent", "12.5")
    heading, row = ok(site, "list").splitlines()
    assert " ".join(heading.split()) == "NAME BASE GENERATION STATE IN FLIGHT CANARY SHADOW"
    generation = site.adapters.status("pirate").generation[:12]
    candidate = site.http.get("/v1/adapters/pirate").json()["canary"]["generation"][:12]
    expected = f"pirate echo {generation} active 0 {candidate} 12.5 % -"
    assert " ".join(row.split()) == expected
    assert row.index("active") == heading.index("STATE")


def test_trials(site: Site) -> None:
    ok(site, "load", "pirate", "./a")
    assert "100 % of requests go to" in ok(site, "canary", "pirate", "./b", "--percent", "100")
    assert says(site, "pirate") == "B"
    ok(site, "stop-trial", "pirate")
    assert says(site, "pirate") == "A"
    ok(site, "canary", "pirate", "./b", "--percent", "1")
    assert "pirate is now what its candidate was" in ok(site, "promote", "pirate")
    assert says(site, "pirate") == "B"
    assert "scores 50 % of the replies" in ok(site, "shadow", "pirate", "./a", "--percent", "50")


def test_the_report(site: Site, tmp_path: Path) -> None:
    ok(site, "load", "pirate", "./a")
    ok(site, "swap", "pirate", "./b")
    ok(site, "shadow", "pirate", "./a")
    says(site, "pirate")
    report = ok(site, "report", "pirate")
    assert f"source      {tmp_path / 'b'}\n" in report
    assert "weights     rank 4, " in report
    assert "served      1 by " in report
    assert f" from {tmp_path / 'a'}\n" in report
    assert "shadow      " in report
    assert "logprob per token: " in report


def test_the_status_counts_adapters(site: Site) -> None:
    ok(site, "load", "pirate", "./a")
    result = CliRunner().invoke(main, ["status"], env={"INFERD_URL": site.url})
    assert "  adapters  1 loaded, 0 in slots\n" in result.output


def test_a_draining_adapter_is_told(site: Site) -> None:
    ok(site, "load", "pirate", "./a")
    site.run(pin(site))
    assert ok(site, "unload", "pirate") == "pirate drains: 1 request still run\n"
    assert " draining " in ok(site, "list")
    assert ok(site, "unload", "pirate", "--deadline", "0", "--wait") == "pirate is unloaded\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("rollback", "pirat"), "The adapter `pirat` does not exist.\n  Did you mean pirate?"),
        (("rollback", "pirate"), "has no generation before this one"),
        (("load", "pirate", "./b"), "already called `pirate`"),
        (("load", "echo", "./b"), "already called `echo`"),
        (("load", "new", "./none"), "There is no such folder"),
        (("load", "new", "./a", "--base", "ecco"), "The model `ecco` does not exist"),
        (("promote", "pirate"), "no canary or shadow"),
    ],
)
def test_what_goes_wrong_is_said_plainly(site: Site, args: tuple[str, ...], words: str) -> None:
    ok(site, "load", "pirate", "./a")
    result = adapters(site, *args)
    assert result.exit_code == 1
    assert words in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("lod", "pirate", "./a"), "no command 'adapters lod'\n  Did you mean load?"),
        (("canary", "pirate", "./a"), "Missing option '--percent'"),
        (("canary", "pirate", "./a", "--percent", "0"), "--percent"),
        (("shadow", "pirate", "./a", "--percent", "200"), "--percent"),
        (("unload", "pirate", "--deadline", "-1"), "--deadline"),
    ],
)
def test_wrong_usage_is_said_plainly(site: Site, args: tuple[str, ...], words: str) -> None:
    result = adapters(site, *args)
    assert result.exit_code == 2
    assert words in result.output
