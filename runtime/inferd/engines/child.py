"""`python -m inferd.engines.child`: the process that holds one core. `engines/process` starts it.

It lives as long as its stdin: the daemon's death, even by SIGKILL, closes that pipe. SIGINT and
SIGTERM are ignored, since only the daemon decides when a model stops. stdout carries pulses, so
whatever libraries print goes to stderr.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
import threading
import time
import traceback

import msgspec

from inferd.engines import catalog, loop
from inferd.engines.base import Core, EngineSpec
from inferd.engines.wire import Begin, ChildChannel, Command, Hello, Pulse, StartFailed, Stop
from inferd.errors import StartError

EXIT_ENGINE = 4  # the core raised
EXIT_ORPHAN = 5  # the daemon is gone

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Heart(threading.Thread):
    """Tells the daemon that this process lives, and whether its loop turns."""

    def __init__(self, fd: int, interval: float) -> None:
        super().__init__(name="heart", daemon=True)
        self.turns = 0
        self.working = True
        self._fd = fd
        self._interval = interval

    def run(self) -> None:
        encode = msgspec.json.Encoder().encode
        while True:
            try:
                os.write(self._fd, encode(Pulse(self.turns, self.working)) + b"\n")
            except BrokenPipeError:
                os._exit(EXIT_ORPHAN)
            time.sleep(self._interval)


def main() -> int:
    """Serve one core until told to stop; returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pulse_fd = os.dup(1)
    os.dup2(2, 1)
    begin = msgspec.json.decode(sys.stdin.buffer.readline(), type=Begin)
    _die_with(begin.parent)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    heart = Heart(pulse_fd, begin.pulse_s)
    heart.start()
    channel = ChildChannel(begin.endpoint)
    try:
        channel.send([Hello()])
        return _serve(begin.spec, channel, heart)
    finally:
        channel.close()


def _serve(spec: EngineSpec, channel: ChildChannel, heart: Heart) -> int:
    core = _start(spec, channel)
    if core is None:
        return 0
    gc.collect()
    gc.freeze()  # what loading made stays: no collection between steps walks through it
    channel.send([core.info])

    def receive(wait: float | None) -> list[Command]:
        heart.turns += 1
        heart.working = wait == 0
        commands = channel.receive(wait)
        heart.working = True
        return commands

    try:
        loop.run(core, receive, channel.send)
    except Exception:
        logging.exception("the engine stopped")
        return EXIT_ENGINE
    finally:
        core.close()
    return 0


def _start(spec: EngineSpec, channel: ChildChannel) -> Core | None:
    """Build the core; where that fails, say so, wait until the daemon read it, return None."""
    try:
        return catalog.find(spec.engine)(spec, lambda progress: channel.send([progress]))
    except StartError as error:
        failure = StartFailed.of(error)
    except MemoryError:
        failure = StartFailed(
            "out_of_memory", "Memory ran out while the model loaded", log=traceback.format_exc()
        )
    except Exception as error:
        logging.exception("the engine did not start")
        failure = StartFailed(
            "crashed", f"The engine failed to start: {error}", log=traceback.format_exc()
        )
    channel.send([failure])
    while not any(isinstance(command, Stop) for command in channel.receive(None)):
        pass
    return None


def _die_with(parent: int) -> None:
    """End this process when the daemon does: by the kernel where it can, and by stdin's end."""
    threading.Thread(target=_watch_stdin, name="lifeline", daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(EXIT_ORPHAN)


def _watch_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(EXIT_ORPHAN)


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # an interpreter that holds torch takes a second to take itself apart
