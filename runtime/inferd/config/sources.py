"""Where options come from: flags over `INFERD_*` over `inferd.toml` over the defaults."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from inferd.config.foreign import unknown_option
from inferd.config.option import Spec, bad_option
from inferd.config.serve import ServeConfig
from inferd.config.specs import SPECS

ENV_PREFIX = "INFERD_"
DEFAULT_FILE = "inferd.toml"
CLIENT_ENV = frozenset({"INFERD_CONFIG", "INFERD_URL"})  # the command line's own
KERNEL_ENV = frozenset({"INFERD_CPU_ISA", "INFERD_CPU_KERNELS"})  # read by inferd_kernels
_KUBERNETES = re.compile(r"INFERD_(SERVICE_.*|PORT_\d+_.*)|INFERD_PORT=tcp://.*")
"""Variables that Kubernetes gives every pod beside a service called `inferd`."""

_BY_NAME = {name: spec for spec in SPECS.values() for name in spec.names}


def flag(name: str) -> str:
    """`max_batch_size` as a flag."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """`max_batch_size` as an environment variable."""
    return ENV_PREFIX + name.upper()


def load(
    flags: Mapping[str, object], env: Mapping[str, str], config_file: Path | None = None
) -> ServeConfig:
    """The options, merged from all sources.

    Args:
        flags: by option name; only what was given.
        env: the process's environment.
        config_file: a TOML file; None takes `$INFERD_CONFIG` or `./inferd.toml`, if there.
    Raises:
        StartError: `bad_option`, naming the source of what is wrong.
    """
    values = _from_file(_config_path(env, config_file))
    values |= _from_env(env)
    values |= {name: SPECS[name].parse(raw, flag(name)) for name, raw in flags.items()}
    return ServeConfig(**values)


def _config_path(env: Mapping[str, str], given: Path | None) -> Path | None:
    if given is None and env.get("INFERD_CONFIG"):
        given = Path(env["INFERD_CONFIG"])
    if given is not None:
        return given
    default = Path(DEFAULT_FILE)
    return default if default.is_file() else None


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise bad_option(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise bad_option(f"{path}: is not valid TOML ({error})") from error
    written = {key: f"{path}: {key}" for key in table}
    return _parse({key.replace("-", "_"): (written[key], table[key]) for key in table}, str)


def _from_env(env: Mapping[str, str]) -> dict[str, Any]:
    ours = {
        key: value
        for key, value in env.items()
        if key.startswith(ENV_PREFIX)
        and key not in CLIENT_ENV | KERNEL_ENV
        and not _KUBERNETES.fullmatch(key)
        and not _KUBERNETES.fullmatch(f"{key}={value}")
    }
    named = {key.removeprefix(ENV_PREFIX).lower(): (key, raw) for key, raw in ours.items()}
    return _parse(named, variable, split=True)


def _parse(
    written: Mapping[str, tuple[str, object]], spell: Callable[[str], str], *, split: bool = False
) -> dict[str, Any]:
    """Parse one source. `written` maps a name to (as the user wrote it, raw value)."""
    values: dict[str, Any] = {}
    for name, (source, raw) in written.items():
        spec = _BY_NAME.get(name)
        if spec is None:
            raise unknown_option(name, source, _spelled(spell, _BY_NAME))
        if spec.name in values:
            raise bad_option(f"{source}: the same option as {spec.name}, which is set as well")
        values[spec.name] = spec.parse(_split(spec, raw) if split else raw, source)
    return values


def _spelled(spell: Callable[[str], str], names: Iterable[str]) -> list[str]:
    return [spell(name) for name in names]


def _split(spec: Spec, raw: object) -> object:
    """A list's variable holds its items with commas between."""
    return raw.split(",") if spec.kind == "list" and isinstance(raw, str) else raw
