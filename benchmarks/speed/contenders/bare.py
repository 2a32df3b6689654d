"""The bare loop: what somebody writes who needs FedAvg in PyTorch and no simulator.

Variants: "" is two processes of one thread, each with half of the cohort's work; "threads" is one
process of two threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from multiprocessing.connection import Connection

import torch
import torch.multiprocessing
from torch import Tensor, nn

from speed.job import PROCESSES, Job
from speed.models import build, named_arrays, sentence_loss
from speed.work_order import WorkOrder


def train(
    model: nn.Module,
    start: list[Tensor],
    work: WorkOrder,
    round: int,
    users: Iterable[int],
    total: list[Tensor],
) -> None:
    """Add every user's change, times the user's sentences, to `total`."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    about = work.about
    for user in users:
        with torch.no_grad():
            for parameter, first in zip(parameters, start, strict=True):
                parameter.copy_(first)
        optimizer = torch.optim.SGD(parameters, lr=about.lr)
        inputs, targets = (torch.from_numpy(a) for a in work.ordered(round, user))
        for x, y in zip(
            inputs.split(about.batch_size), targets.split(about.batch_size), strict=True
        ):
            optimizer.zero_grad()
            sentence_loss(model(x), y, about.nominal_tokens).backward()
            optimizer.step()
        with torch.no_grad():
            for added, parameter, first in zip(total, parameters, start, strict=True):
                added.add_(parameter - first, alpha=work.n_sentences(user))


def balanced(work: WorkOrder, round: int, processes: int) -> list[list[int]]:
    """The round's users, the longest first, each to the process that has the least to do."""
    shares: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for user in sorted(work.cohort(round), key=work.n_sentences, reverse=True):
        least = loads.index(min(loads))
        shares[least].append(user)
        loads[least] += int(work.lengths(user).sum())
    return shares


def _worker(
    job: Job, model: nn.Module, start: list[Tensor], total: list[Tensor], pipe: Connection
) -> None:
    work = job.work()
    while (task := pipe.recv()) is not None:
        for part in total:
            part.zero_()
        train(model, start, work, *task, total)
        pipe.send("done")


def run(job: Job) -> None:
    """Rounds of FedAvg in shared memory."""
    work = job.work()
    processes = 1 if job.variant == "threads" else PROCESSES
    torch.set_num_threads(PROCESSES // processes)
    model = build(work)
    start = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    totals = [[torch.zeros_like(p) for p in start] for _ in range(processes)]
    pipes = []
    if processes > 1:
        fork = torch.multiprocessing.get_context("fork")  # as Linux does it by default
        for tensor in [*start, *(part for total in totals for part in total)]:
            tensor.share_memory_()
        for total in totals:
            pipe, child = fork.Pipe()
            pipes.append(pipe)
            arguments = (job, model, start, total, child)
            fork.Process(target=_worker, args=arguments, daemon=True).start()
    job.say("ready")
    for round in range(1, job.rounds + 1):
        shares = balanced(work, round, processes)
        if pipes:
            for pipe, share in zip(pipes, shares, strict=True):
                pipe.send((round, share))
            for pipe in pipes:
                pipe.recv()
        else:
            for part in totals[0]:
                part.zero_()
            train(model, start, work, round, shares[0], totals[0])
        weight = sum(work.n_sentences(user) for user in work.cohort(round))
        for first, *parts in zip(start, *totals, strict=True):
            first.add_(sum(parts), alpha=1 / weight)
        job.say("round", round=round)
    for pipe in pipes:
        pipe.send(None)
    with torch.no_grad():
        trained = [p for p in model.parameters() if p.requires_grad]
        for parameter, first in zip(trained, start, strict=True):
            parameter.copy_(first)
    job.save(named_arrays(model))
