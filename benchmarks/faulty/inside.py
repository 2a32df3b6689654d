"""A command of the product in this process, with the faults of its orders: `python -m`."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

from faulty.orders import Orders, WriteFault


def main() -> None:
    """The product's command with this process's arguments."""
    orders = Orders.received()
    # So that a segment that is left behind can be told from those of others.
    shared_memory._SHM_NAME_PREFIX = segment_prefix(orders)  # type: ignore[attr-defined]
    if orders.clients:
        import fedsim.simulation

        fedsim.simulation.CLIENT_APP = "faulty.clients:app"
    if orders.write or orders.slow_writes_s or orders.count_writes:
        Writes(orders).watch()
    import run_sim

    run_sim.main()


def segment_prefix(orders: Orders) -> str:
    """What the names of the attempt's shared-memory segments begin with."""
    return f"/f{orders.attempt}_"


class Writes:
    """Counts the writes of the run's record, and does what is ordered at one of them."""

    def __init__(self, orders: Orders) -> None:
        self.orders, self.count, self.main = orders, 0, os.getpid()

    def watch(self) -> None:
        """Begin."""
        from fedsim.runs import Run

        real_fsync, real_append = os.fsync, Run.append

        def fsync(descriptor: int) -> None:
            fault = self._next()
            time.sleep(self.orders.slow_writes_s)
            if fault and fault.moment == "torn":
                os.truncate(descriptor, os.fstat(descriptor).st_size // 2)
            if fault and fault.moment != "after":
                self._do(fault)
            real_fsync(descriptor)
            if fault and fault.moment == "after":
                self._do(fault)

        def append(run: Run, name: str, rows: Any) -> None:
            fault = self._next()
            if fault and fault.moment == "before":
                self._do(fault)
            real_append(run, name, rows)
            if fault and fault.moment == "torn":
                path = run.path / f"{name}.csv"
                os.truncate(path, path.stat().st_size - 9)
            if fault and fault.moment != "before":
                self._do(fault)

        os.fsync, Run.append = fsync, append  # type: ignore[method-assign]

    def _next(self) -> WriteFault | None:
        """The fault of this write, if it has one."""
        self.count += 1
        if self.orders.count_writes:
            (Path(self.orders.folder) / "writes").write_text(str(self.count))
        fault = self.orders.write
        return fault if fault and fault.at == self.count else None

    def _do(self, fault: WriteFault) -> None:
        if fault.do == "kill":
            os.kill(self.main, signal.SIGKILL)
            time.sleep(60)  # until it arrives
        # A full disk, for this process: no file may grow beyond some bytes from now on.
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))


if __name__ == "__main__":
    sys.argv[0] = "run_sim.py"
    main()
