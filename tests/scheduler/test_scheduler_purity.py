"""The package needs the standard library alone, and nothing of it that does I/O."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import sys
for name in ("torch", "numpy", "msgspec", "asyncio", "socket"):
    sys.modules[name] = None
import inferd_scheduler
import inferd_scheduler.testing, inferd_scheduler.simulator, inferd_scheduler.workload
roots = {name.partition(".")[0] for name, module in sys.modules.items() if module}
foreign = roots - set(sys.stdlib_module_names) - {"inferd_scheduler", "__main__"}
print(sorted(name for name in foreign if not name.startswith("_")))
"""


def test_it_imports_with_torch_and_numpy_blocked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
