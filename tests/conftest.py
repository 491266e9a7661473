"""Settings that every test shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # where memory is poisoned torch asks
if not Path("/dev/nvidiactl").exists():
    # Read as a kernel is defined, so it must be there before any test imports one. Without torch,
    # which not every test imports; where this errs, tests/kernels/gpu_device.py asks it.
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest

# A shell ignores Ctrl-C for what it runs in the background, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Daemons that tests start keep nothing in the user's own folders."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
