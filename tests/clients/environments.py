"""Environments of their own for clients under test: made on demand, once per list of packages.

`.venv-clients/NAME` holds what `requirements/NAME.txt` pins; `.venv-clients/node` what the
package lock in `node/` does. A second call does nothing. All of them, ahead of the tests:
`python -m tests.clients.environments`. Anew from the `.in` files: `scripts/lock_clients`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
REQUIREMENTS = HERE / "requirements"
ROOT = HERE.parent.parent / ".venv-clients"

MAIN = "main"
"""The environment that runs the tests; nothing is installed into it."""

NODE = "node"

SEE_MAIN = frozenset({"lm_eval", "guidellm"})
"""Those that take torch and transformers from the main environment: see `overrides.txt`."""

UV = find_uv_bin()  # here, where there is one thread: it is not safe for several
NODE_AT_LEAST = 20
INSTALL_TIMEOUT = 300.0  # seconds


class Unavailable(Exception):
    """The environment can't be made here; says why in a line."""


@dataclass(frozen=True)
class Environments:
    """Where environments are made, and from which lists; threads may share one."""

    root: Path = ROOT
    requirements: Path = REQUIREMENTS
    see_main: frozenset[str] = SEE_MAIN
    path: str | None = None
    """Where node and npm are looked for; None means PATH."""

    def prepare(self, group: str) -> Path:
        """The interpreter (python or node) of a group's environment, which is made if need be.

        Raises:
            Unavailable: a tool is missing, or the packages can't be installed.
        """
        if group == MAIN:
            return Path(sys.executable)
        return self._node() if group == NODE else self._python(group)

    def groups(self) -> list[str]:
        """All environments that are made here."""
        return [*sorted(path.stem for path in self.requirements.glob("*.in")), NODE]

    def _python(self, group: str) -> Path:
        folder, pins = self.root / group, self.requirements / f"{group}.txt"
        python = folder / "bin" / "python"
        with _making(folder, sys.version, sys.prefix, pins.read_text()) as needed:
            if needed:
                _run(UV, "venv", str(folder), "--clear", "--quiet", "--python", sys.executable)
                options = ("--no-deps", "--quiet", "--python", str(python))
                _run(UV, "pip", "install", *options, "-r", str(pins))
                if group in self.see_main:
                    _see_main(python)
        return python

    def _node(self) -> Path:
        node, npm = (shutil.which(name, path=self.path) for name in ("node", "npm"))
        if node is None or npm is None:
            raise Unavailable("node and npm are not installed")
        version = _run(node, "--version").strip()
        if int(version.removeprefix("v").split(".")[0]) < NODE_AT_LEAST:
            raise Unavailable(f"node {NODE_AT_LEAST} or newer is needed; here is {version}")
        folder = self.root / NODE
        lists = [HERE / "node" / name for name in ("package.json", "package-lock.json")]
        with _making(folder, version, *(path.read_text() for path in lists)) as needed:
            if needed:
                folder.mkdir(parents=True, exist_ok=True)
                for path in lists:
                    shutil.copy(path, folder)
                _run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
        return Path(node)


def _see_main(python: Path) -> None:
    """Let `python` import what the main environment has, after what it has itself."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(_run(str(python), "-c", code).strip())
    (packages / "main.pth").write_text(sysconfig.get_path("purelib") + "\n")


@contextmanager
def _making(folder: Path, *contents: str) -> Iterator[bool]:
    """Whether `folder` has to be made from `contents`; one process at a time asks.

    It counts as made when the body ends without an exception.
    """
    folder.parent.mkdir(exist_ok=True)
    stamp = folder / ".made-from"
    want = hashlib.sha256("\0".join(contents).encode()).hexdigest()
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        needed = not stamp.exists() or stamp.read_text() != want
        yield needed
        if needed:
            stamp.write_text(want)


def _run(*command: str, cwd: Path | None = None) -> str:
    """Its standard output."""
    env = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    name = " ".join([Path(command[0]).name, *command[1:3]])
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, timeout=INSTALL_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{name} …` took longer than {INSTALL_TIMEOUT:g} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if "warn" not in line]
        raise Unavailable(f"`{name} …` failed: {' '.join(filter(None, lines[:5]))[:300]}")
    return done.stdout


def main() -> int:
    """Make all environments; say which can't be made."""

    environments = Environments()

    def made(group: str) -> str:
        try:
            return f"{group}: {environments.prepare(group)}"
        except Unavailable as error:
            return f"{group}: unavailable: {error}"

    with ThreadPoolExecutor(4) as pool:
        lines = list(pool.map(made, environments.groups()))
    sys.stdout.write("\n".join(lines) + "\n")
    return any("unavailable" in line for line in lines)


if __name__ == "__main__":
    sys.exit(main())
