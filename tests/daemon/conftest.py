"""Daemons over the echo engine, and a tokenizer of single bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.daemon.daemons import Daemon, Start


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokens are bytes, and whose template joins the messages' contents.

    Its one weight makes it whole; the echo engine does not read it.
    """
    folder = tmp_path_factory.mktemp("models") / "bytes"
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: index for index, char in enumerate([*alphabet, "<end>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    settings = {"eos_token": "<end>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 257}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": np.zeros(1, np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def launch(model_folder: Path) -> Callable[..., Daemon]:
    """Launch a daemon: `launch(*flags, engine="delay=0.1", model=…, port=…, **variables)`."""

    def launched(
        *args: str, engine: str = "", model: Path | str = model_folder, port: int = 0, **env: str
    ) -> Daemon:
        options = f"vocab_size=257,{engine}".rstrip(",")
        flags = ("--engine", f"echo:{options}", "--port", str(port))
        return Daemon(str(model), *flags, *args, env=env)

    return launched


@pytest.fixture
def start(launch: Start) -> Iterator[Start]:
    """As `launch`, for daemons that end with the test."""
    daemons: list[Daemon] = []

    def started(*args: str, **options: str) -> Daemon:
        daemons.append(launch(*args, **options))
        return daemons[-1]

    yield started
    for daemon in daemons:
        daemon.close()


@pytest.fixture(scope="session")
def running(launch: Start) -> Iterator[Daemon]:
    """One daemon that all tests share which do not end it."""
    daemon = launch()
    yield daemon
    daemon.close()
