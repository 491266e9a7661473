"""Which local folders callers may name, for adapters and models alike."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from inferd.errors import Forbidden, InvalidRequest


class PathPolicy(Struct, frozen=True):
    """What the operator allows.

    Args:
        everywhere: any folder; right only where whoever can ask is the operator: every listening
            address is loopback and there is no key.
        folders: these, and what is below them.
    """

    everywhere: bool = False
    folders: tuple[Path, ...] = ()


def is_path(source: str) -> bool:
    """Whether `source` names a local folder rather than a repository on the hub. Whatever lies
    in the daemon's working folder does not matter: a relative path begins with a dot."""
    return source.startswith(("/", ".", "~"))


def check_path(path: str, policy: PathPolicy, *, param: str) -> Path:
    """The absolute folder that `path` names, with links followed.

    Raises:
        Forbidden: the operator does not allow it; names `param`. Says nothing of what is there.
        InvalidRequest: it is no path.
    """
    if "\0" in path:
        raise InvalidRequest(f"{param} is not a path", param)
    try:
        folder = Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # a loop of links; a home that nobody knows
        raise InvalidRequest(f"{param} is not a path", param) from error
    if policy.everywhere or any(folder.is_relative_to(each.resolve()) for each in policy.folders):
        return folder
    raise Forbidden(
        f"{param} names a local folder, which this server does not allow there; its operator can, "
        "with --allow-path",
        param=param,
    )


def check_source(source: str, policy: PathPolicy, *, param: str) -> str:
    """`source`: a hub id as it is; a path absolute and allowed. Raises as `check_path`."""
    return str(check_path(source, policy, param=param)) if is_path(source) else source
