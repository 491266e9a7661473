"""The daemon's pure parts: addresses, names, the engine's spec; and what it does not import."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from inferd.config import load
from inferd.deployments import DeploySpec
from inferd.errors import StartError, Unavailable
from inferd.listening import Address, listen
from inferd.registry import Registry
from inferd.wiring import (
    deployed_spec,
    engine_spec,
    path_policy,
    seed_source,
    served_names,
    spec_of,
)


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
        "quantization": "int8",
        "quantization_check": False,
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
        "deterministic": True,
        "max_adapters": "2",
        "max_adapter_rank": "16",
        "adapter_host_bytes": "1MiB",
    }
    config = load(flags, {})
    spec = engine_spec(config, tmp_path)
    assert spec.engine == "native"
    assert spec.model == str(tmp_path)
    for name in flags:
        assert getattr(spec, name) == getattr(config, name)
    others = set(spec.__struct_fields__) - set(flags)
    assert others == {"engine", "model", "cpu_kernels"}


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
    ("flags", "names"),
    [
        ({}, ("demo",)),
        ({"model": "org/name"}, ("org/name",)),
        ({"model": "org/name@main"}, ("org/name", "org/name@main")),
        ({"model": "."}, ("model", ".")),
        ({"model": "x", "served_model_name": ("a", "b")}, ("a", "b")),
    ],
)
def test_names(
    flags: dict[str, object],
    names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    assert served_names(load(flags, {})) == names


def test_the_command_lines_model_keeps_its_options(tmp_path: Path) -> None:
    flags = {"model": str(tmp_path), "kv_cache_bytes": "1MiB", "max_model_len": "7"}
    config = load(flags | {"min_instances": "0", "max_instances": "3", "dtype": "bfloat16"}, {})
    spec = spec_of(config)
    assert (spec.model, spec.min_instances, spec.max_instances) == (str(tmp_path), 0, 3)
    assert deployed_spec(config, spec, tmp_path) == engine_spec(config, tmp_path)


def test_other_models_get_what_is_general(tmp_path: Path) -> None:
    flags = {"kv_cache_bytes": "1MiB", "max_model_len": "7", "dtype": "bfloat16"}
    config = load(flags | {"max_batch_size": "5", "max_batch_tokens": "9"}, {})
    other = DeploySpec(model_name="other", model="org/other", max_batch_size=3, max_model_len=70)
    spec = deployed_spec(config, other, tmp_path)
    assert (spec.max_batch_tokens, spec.max_batch_size, spec.max_model_len) == (9, 3, 70)
    assert (spec.kv_cache_bytes, spec.dtype) == (None, "auto")


@pytest.mark.parametrize(
    ("flags", "everywhere"),
    [
        ({}, True),
        ({"api_key": ("k",)}, False),
        ({"host": "0.0.0.0", "api_key": ("k",)}, False),
        ({"host": "0.0.0.0", "allow_unauthenticated": True}, False),
        ({"allow_path": (".",)}, False),
    ],
)
def test_only_the_operator_may_name_any_folder(flags: dict[str, object], everywhere: bool) -> None:
    policy = path_policy(load(flags, {}))
    assert policy.everywhere == everywhere
    assert policy.folders == ((Path.cwd(),) if "allow_path" in flags else ())


def test_before_any_model_is_there_requests_are_told_to_wait() -> None:
    with pytest.raises(Unavailable):
        Registry().resolve("demo")


def test_the_daemons_process_imports_no_model_code() -> None:
    code = "import sys, inferd.daemon; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
