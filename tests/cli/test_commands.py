"""The command line as a person meets it: help, versions, wrong words."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inferd.cli import COMMANDS, main
from inferd.config import SPECS
from inferd.config.sources import flag


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def inferd(*args: str, **env: str) -> Result:
    return CliRunner().invoke(main, args, env=env)


def test_version() -> None:
    assert inferd("--version").output == f"inferd {version('inferd')}\n"


def test_help_lists_the_commands() -> None:
    for words in (["--help"], ["-h"]):
        output = inferd(*words).output
        assert all(name in output for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = inferd(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: inferd {name} ")


def test_help_of_serve_shows_every_option_but_hidden_ones() -> None:
    shown = set(re.findall(r"--[a-z-]+[a-z]", inferd("serve", "--help").output))
    for spec in SPECS.values():
        names = {flag(name) for name in spec.names}
        assert names & shown == (set() if spec.option.hidden else names)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("serv", "there is no command 'serv'\n  Did you mean serve?"),
        ("serve --max-num-sequences 3", "Did you mean --max-num-seqs?"),
        ("serve --max-bach-size 3", "Did you mean --max-batch-size?"),
        ("serve --no-prefix-cash", "Did you mean --prefix-cache?"),
        ("serve --mem-fraction-static 0.5", "inferd calls it --memory-fraction."),
        ("serve --tensor-parallel-size 2", "vLLM has this option; inferd does not have it yet"),
        ("serve -tp 2", "-tp: vLLM has this option"),
        ("serve -O3", "-O: vLLM has this option"),
        ("serve --compilation-config.mode 3", "vLLM has this option; inferd does not have it yet"),
        ("serve --swap-space 4", "vLLM has this option; inferd does not have it yet"),
        ("serve --enable-lora", "inferd needs none\n  Models take adapters"),
        ("serve --max-cpu-loras 9", "inferd calls it --adapter-host-bytes."),
        ("serve --quantization fp8", "'fp8' is not one of auto, int8, compressed-tensors"),
        ("serve --port x", "--port: 'x' is not a whole number"),
        ("serve --max_num_seqs 0", "--max-batch-size: 0 is out of range"),
        ("serve --port", "requires an argument"),
        ("serve one two", "unexpected extra argument"),
        ("serve one --model two", "two models are named"),
        ("serve --host 0.0.0.0", "no API key is set"),
        ("serve --config nowhere.toml", "nowhere.toml: cannot be read"),
        ("plan --frobnicate", "--frobnicate: unknown option"),
    ],
)
def test_wrong_usage_is_said_plainly(args: str, words: str) -> None:
    result = inferd(*args.split())
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


def test_an_unknown_variable_is_an_error() -> None:
    result = inferd("serve", INFERD_MAX_BATCHSIZE="3")
    assert result.exit_code == 2
    assert "INFERD_MAX_BATCHSIZE: unknown option" in result.output
    assert "Did you mean INFERD_MAX_BATCH_SIZE?" in result.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from inferd.cli import main\n"
        "for args in (['--help'], ['serve', '--help'], ['chat', '--help']):\n"
        "    main(args, standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'numpy', 'httpx', 'rich', 'starlette', 'uvicorn'}\n"
        "print(heavy & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


@pytest.mark.parametrize("command", ["chat", "models", "status"])
def test_no_daemon_is_said_plainly(command: str) -> None:
    result = inferd(command, "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "no daemon answers at http://127.0.0.1:9" in result.output
    assert "inferd serve" in result.output
