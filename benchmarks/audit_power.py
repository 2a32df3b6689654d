"""How often the audit of epsilon catches a broken build, and accuses one that is right.

Show 3 of the leakage laboratory: small audit runs of `dp-fedavg` through both Flower apps on the
local engine, over many seeds, of the build as it is, with noise divided by ten, and without
clipping (on both sides: clients alone that do not clip are refused by the server).

    python benchmarks/audit_power.py --right 40 --broken 20
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from fedsim.config import Config, load
from fedsim.federation import open_federation
from fedsim.leakage.base import Findings, Subject
from fedsim.leakage.measures.epsilon import Epsilon
from fedsim.models import build
from fedsim.privacy.contributions import Clipped
from fedsim.privacy.mechanisms.user_level import UserLevel
from fedsim.runs import Run
from fedsim.seeding import stream
from fedsim.simulation import simulate
from fedsim.updates import UserResult

PEOPLE, MESSAGES, WORDS = 30, 12, 120
OVERRIDES = (
    "model=cifg-small", "model.hidden=24", "model.embedding=16", "engine.name=local",
    "privacy=dp-fedavg", "privacy.noise_multiplier=8", "privacy.delta=1e-5",
    "server.sampler=poisson", "server.cohort=5", "data.min_words=10",
)  # fmt: skip
JUDGED = "epsilon_contradicted"  # counted as accusations
AUDIT = Epsilon()  # by its defaults: everybody in each of four rounds


def write_chat(path: Path) -> Path:
    """Messages of a few people, words at random: what they say does not matter here."""
    rng = stream(0, "audit power chat")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "text"])
        for person in range(PEOPLE):
            for _ in range(MESSAGES):
                words = rng.integers(WORDS, size=6)
                writer.writerow([f"p{person}", " ".join(f"w{w}" for w in words)])
    return path


class Bench:
    """Trains in this process, where the build can be broken."""

    def train(self, cells: Mapping[str, Config]) -> Mapping[str, Run]:
        """See `fedsim.leakage.base.Workbench`."""
        folder = Path(tempfile.mkdtemp(prefix="audit-power-"))
        return {name: simulate(c, folder / name, quiet=True) for name, c in cells.items()}


class Unclipped(Clipped):
    """On the grid of what is clipped, and as large as it came."""

    def add(self, flat: Any, total: Any, update: Any, *rest: Any) -> bool:
        """See `Contribution.add`."""
        flat.add_multiples(total, update, 1 / self.resolution)
        return True

    def reach(self, result: UserResult) -> float:
        """Anything."""
        return result.update_norm


@contextlib.contextmanager
def noise_divided_by_ten() -> Iterator[None]:
    """The server draws noise of a tenth of the deviation that it states."""
    real = UserLevel.noise_on_update
    with mock.patch.object(UserLevel, "noise_on_update", lambda self: real(self) / 10):
        yield


@contextlib.contextmanager
def clipping_off() -> Iterator[None]:
    """Updates enter the sum as they are."""
    off = classmethod(lambda cls, options, work, *_: Unclipped(work["clip_norm"]))
    with mock.patch.object(UserLevel, "contribution", off):
        yield


def audit(chat: Path, seed: int) -> Findings:
    """The audit of one seed."""
    config = load("default", [f"data.path={chat}", f"seed={seed}", *OVERRIDES])
    federation = open_federation(config)
    model = build(config.model.options, len(federation.corpus.vocabulary))
    took_part = np.zeros(federation.users, np.int32)
    return AUDIT.measure(Subject(model, config, federation, took_part, seed, Bench()))


def main() -> None:
    """Print one row a build: how many audits accused it, and the bounds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--right", type=int, default=40, help="seeds of the build as it is")
    parser.add_argument("--broken", type=int, default=20, help="seeds of each broken build")
    asked = parser.parse_args()
    chat = write_chat(Path(tempfile.mkdtemp(prefix="audit-power-")) / "chat.csv")
    builds: list[tuple[str, Callable[[], contextlib.AbstractContextManager[None]], int]] = [
        ("as it is", contextlib.nullcontext, asked.right),
        ("noise / 10", noise_divided_by_ten, asked.broken),
        ("clipping off", clipping_off, asked.broken),
    ]
    for name, broken, seeds in builds:
        began, accused = time.monotonic(), 0
        found: dict[str, list[float]] = {}
        for seed in range(1, seeds + 1):
            with broken():
                findings = audit(chat, seed)
            accused += bool(findings.broken)
            for row in findings.rows:
                if row.quantity.startswith("epsilon") and row.quantity != JUDGED:
                    found.setdefault(f"{row.quantity} {row.group}".strip(), []).append(row.estimate)
        print(f"{name}: accused in {accused} of {seeds} seeds, "
              f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
        proven = found["epsilon_proven"][0]
        for method, values in found.items():
            above = sum(value > proven for value in values)
            print(f"  {method}: median {np.median(values):.3g}, highest {max(values):.3g}, "
                  f"above the proven epsilon in {above}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
