"""Flags win over variables, variables over the file, the file over defaults; errors name all."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferd.config import SPECS, ServeConfig, load
from inferd.config.foreign import NOT_HERE_YET, OTHER_NAMES
from inferd.errors import StartError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _file(text: str, name: str = "inferd.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def test_defaults() -> None:
    assert load({}, {}) == ServeConfig()


@pytest.mark.parametrize(
    ("flags", "env", "file", "port"),
    [
        ({}, {}, "", 8000),
        ({}, {}, "port = 1", 1),
        ({}, {"INFERD_PORT": "2"}, "", 2),
        ({}, {"INFERD_PORT": "2"}, "port = 1", 2),
        ({"port": "3"}, {"INFERD_PORT": "2"}, "port = 1", 3),
        ({"port": "3"}, {}, "port = 1", 3),
    ],
)
def test_precedence(flags: dict[str, str], env: dict[str, str], file: str, port: int) -> None:
    _file(file)
    assert load(flags, env).port == port


def test_every_option_can_come_from_every_source() -> None:
    for spec in SPECS.values():
        raw = {"integer": "1", "number": "0.5", "flag": "true"}.get(spec.kind, "word")
        raw = next(iter(spec.option.choices)) if spec.option.choices else raw
        if spec.name == "host":
            raw = "127.0.0.2"
        toml = raw if spec.kind in ("integer", "number", "flag") else f'"{raw}"'
        from_flag = load({spec.name: raw}, {})
        assert load({}, {"INFERD_" + spec.name.upper(): raw}) == from_flag
        assert load({}, {}, _file(f"{spec.name} = {toml}", "other.toml")) == from_flag


def test_aliases_are_accepted_everywhere() -> None:
    assert load({}, {"INFERD_MAX_NUM_SEQS": "3"}).max_batch_size == 3
    assert load({}, {}, _file("max-num-seqs = 3")).max_batch_size == 3


def test_lists_in_variables_have_commas() -> None:
    assert load({}, {"INFERD_API_KEY": "one,two"}).api_key == ("one", "two")


def test_a_named_file_must_be_there() -> None:
    with pytest.raises(StartError, match=r"missing\.toml: cannot be read"):
        load({}, {}, Path("missing.toml"))
    with pytest.raises(StartError, match=r"missing\.toml: cannot be read"):
        load({}, {"INFERD_CONFIG": "missing.toml"})


@pytest.mark.parametrize(
    ("env", "file", "message", "hint"),
    [
        ({"INFERD_PROT": "1"}, "", "INFERD_PROT: unknown option", "Did you mean INFERD_PORT?"),
        ({}, "prot = 1", "inferd.toml: prot: unknown option", "Did you mean port?"),
        ({}, "[serve]\nport = 1", "inferd.toml: serve: unknown option", ""),
        ({}, "port = [", "inferd.toml: is not valid TOML", ""),
        ({}, 'port = "x"', "inferd.toml: port: 'x' is not a whole number", ""),
        ({"INFERD_PORT": "x"}, "", "INFERD_PORT: 'x' is not a whole number", ""),
        ({"INFERD_PAGE_SIZE": "1"}, "", "INFERD_PAGE_SIZE: unknown", "INFERD_BLOCK_SIZE"),
        (
            {},
            "tensor_parallel_size = 2",
            "inferd.toml: tensor_parallel_size: vLLM has this option; inferd does not have it yet",
            "",
        ),
        (
            {"INFERD_MAX_NUM_SEQS": "1", "INFERD_MAX_BATCH_SIZE": "2"},
            "",
            "the same option as max_batch_size",
            "",
        ),
    ],
)
def test_errors(env: dict[str, str], file: str, message: str, hint: str) -> None:
    _file(file)
    with pytest.raises(StartError) as caught:
        load({}, env)
    assert caught.value.code == "bad_option"
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_variables_that_are_not_options_are_left_alone() -> None:
    env = {
        "INFERD_URL": "http://elsewhere",
        "INFERD_CPU_ISA": "avx2",  # the kernels' own
        "INFERD_CPU_KERNELS": "0",
        "PORT": "1",
        "INFERD_PORT": "tcp://10.0.0.1:8000",  # Kubernetes, beside a service called inferd
        "INFERD_PORT_8000_TCP_ADDR": "10.0.0.1",
        "INFERD_SERVICE_HOST": "10.0.0.1",
    }
    assert load({}, env) == ServeConfig()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    assert load({"host": host}, {}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_other_hosts_need_a_key_or_an_explicit_word(host: str) -> None:
    with pytest.raises(StartError) as caught:
        load({"host": host}, {})
    assert "no API key" in caught.value.message
    assert "--api-key" in caught.value.hint
    assert load({"host": host, "api_key": ("k",)}, {}).api_key == ("k",)
    assert load({"host": host, "allow_unauthenticated": True}, {}).host == host


def test_foreign_names_do_not_shadow_our_own() -> None:
    ours = {name for spec in SPECS.values() for name in spec.names}
    assert not ours & (NOT_HERE_YET | OTHER_NAMES.keys())
    assert set(OTHER_NAMES.values()) <= SPECS.keys()


def test_instances_have_an_order() -> None:
    with pytest.raises(StartError, match="min_instances is 3, which is more than max_instances, 2"):
        load({"min_instances": "3", "max_instances": "2"}, {})
    assert load({"min_instances": "0"}, {}).max_instances == 1


def test_a_database_outlives_the_server_only_with_a_state_folder() -> None:
    flags = {"database": "sqlite:///x.db"}
    with pytest.raises(StartError, match="port 0") as caught:
        load(flags | {"port": "0"}, {})
    assert "--state-dir" in caught.value.hint
    assert load(flags | {"port": "0", "state_dir": "x"}, {}).database
    assert load(flags, {}).database
