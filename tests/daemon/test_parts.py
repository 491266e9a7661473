"""The daemon's pure parts: addresses, names, the engine's spec; and what it does not import."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from inferd.config import load
from inferd.daemon import Address, engine_spec, listen, seed_source, served_names
from inferd.errors import StartError, Unavailable
from inferd.registry import Registry
from inferd.weights import ModelFolder


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("localhost", "http://localhost:80"),
    ],
)
def test_the_url_works_on_this_machine(host: str, url: str) -> None:
    assert Address(host, 80).url == url


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(StartError, match=f"cannot listen on {host}, port 0: "):
        listen(host, 0)


def test_port_zero_takes_a_free_one() -> None:
    with listen("127.0.0.1", 0) as one, listen("127.0.0.1", 0) as two:
        assert one.getsockname()[1] != two.getsockname()[1]
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_every_engine_option_is_passed_on(tmp_path: Path) -> None:
    flags = {
        "dtype": "bfloat16",
        "device": "cpu",
        "max_model_len": "77",
        "max_batch_size": "5",
        "max_batch_tokens": "99",
        "block_size": "8",
        "kv_cache_bytes": "1MiB",
        "memory_fraction": "0.5",
        "num_threads": "3",
        "policy": "fair",
        "max_queue_requests": "7",
        "max_queue_tokens": "70",
        "prefix_cache": False,
        "enforce_eager": True,
    }
    config = load(flags, {})
    spec = engine_spec(config, tmp_path)
    assert spec.engine == "native"
    assert spec.model == str(tmp_path)
    for name in flags:
        assert getattr(spec, name) == getattr(config, name)
    others = set(spec.__struct_fields__) - set(flags)
    assert others == {"engine", "model"}


def test_echo_takes_its_options_with_its_name(tmp_path: Path) -> None:
    spec = engine_spec(load({"engine": "echo:delay=1"}, {}), tmp_path)
    assert (spec.engine, spec.model) == ("echo", "echo:delay=1")


def test_seeds_repeat_only_where_a_seed_is_given() -> None:
    def seeds(seed: int | None) -> list[int]:
        source = seed_source(seed)
        return [source() for _ in range(50)]

    assert seeds(7) == seeds(7) != seeds(8)
    assert seeds(None) != seeds(None)
    assert all(0 <= seed < 2**64 for seed in seeds(None))
    assert max(seeds(7)) >= 2**62


@pytest.mark.parametrize(
    ("flags", "found", "names"),
    [
        ({}, "demo", ("demo",)),
        ({"model": "org/name"}, "org/name", ("org/name",)),
        ({"model": "./some/model"}, "model", ("model", "./some/model")),
        ({"model": "x", "served_model_name": ("a", "b")}, "x", ("a", "b")),
    ],
)
def test_names(flags: dict[str, object], found: str, names: tuple[str, ...]) -> None:
    assert served_names(load(flags, {}), ModelFolder(Path("somewhere"), found)) == names


def test_before_any_model_is_there_requests_are_told_to_wait() -> None:
    with pytest.raises(Unavailable):
        Registry().resolve("demo")


def test_the_daemons_process_imports_no_model_code() -> None:
    code = "import sys, inferd.daemon; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
