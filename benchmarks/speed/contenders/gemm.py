"""What the machine can do: products of 1024 x 1024 float32 matrices, as many threads as the others.

One process a core, at the same time, as in the fastest contenders.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection

import torch
import torch.multiprocessing

from speed.job import PROCESSES, Job

SIZE, SECONDS = 1024, 2.0


def _multiply(pipe: Connection) -> None:
    torch.set_num_threads(1)
    a, b = torch.rand(2, SIZE, SIZE)
    out = a @ b
    pipe.send("ready")
    pipe.recv()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        torch.mm(a, b, out=out)
        count += 1
    pipe.send(count / (time.perf_counter() - started))


def run(job: Job) -> None:
    """Report floating-point operations a second, of all processes together."""
    fork = torch.multiprocessing.get_context("fork")
    pipes = []
    for _ in range(PROCESSES):
        pipe, child = fork.Pipe()
        fork.Process(target=_multiply, args=(child,), daemon=True).start()
        pipes.append(pipe)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    rate = sum(pipe.recv() for pipe in pipes)
    job.say("gemm", flops=rate * 2 * SIZE**3)
