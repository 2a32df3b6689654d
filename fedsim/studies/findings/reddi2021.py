"""Reddi et al. 2021: adaptive server optimizers beat plain FedAvg on next-word prediction."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from fedsim.studies.findings.arms import Arm, Arms
from fedsim.studies.findings.base import (
    DOES_NOT_SHOW,
    FINDINGS,
    SHOWS,
    UNRESOLVED,
    Asked,
    Outcome,
    Published,
)
from fedsim.studies.findings.pairing import Interval, over_seeds, paired

PLAIN = "FedAvg"
ADAPTIVE = {"FedAdagrad": "adagrad", "FedAdam": "adam", "FedYogi": "yogi"}
_TABLE = "table 1, Stack Overflow next-word prediction"


@FINDINGS.register("reddi2021")
class Reddi2021(Arms):
    """Four server optimizers, each with its own search of client and server learning rate."""

    title = "Adaptive server optimizers beat plain FedAvg"
    citation = (
        "Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar and McMahan (2021): Adaptive "
        "Federated Optimization. ICLR."
    )
    claim = (
        "On next-word prediction FedAdagrad, FedAdam and FedYogi reach a higher recall than FedAvg "
        "in the same number of rounds, at tuned learning rates."
    )
    rule = (
        "Shows, where each of FedAdagrad, FedAdam and FedYogi has a higher top-1 recall on test "
        "users than FedAvg and the 95 % interval of the difference, paired by seed, is above zero; "
        "does not show, where one of these intervals is below zero; else not resolved."
    )
    published = (
        Published("FedAvg", "19.5 %", _TABLE),
        Published("FedAdagrad", "23.8 %", _TABLE),
        Published("FedAdam", "25.2 %", _TABLE),
        Published("FedYogi", "25.2 %", _TABLE),
    )
    cost = "16 minutes on 2 cores"
    shared = (
        "canaries.per_cell=0",
        "data.cap_words=500",
        "server.cohort=10",
        "server.rounds=100",
        "evaluation.every=20",
    )
    varied: ClassVar[dict[str, str]] = dict.fromkeys(
        ("optimizer", "optimizer.lr", "client.lr", "strategy"),
        "optimizers and their learning rates are what it compares; leave it out",
    ) | {"seed": "use --seeds"}

    def arms(self, asked: Asked) -> tuple[Arm, ...]:
        """FedAvg is server SGD at 1: five trials of the client's rate; the others have four."""
        lrs = tuple((f"client.lr={lr}",) for lr in (1.0, 2.0, 4.0, 8.0, 16.0))
        plain = Arm(PLAIN, ("optimizer=sgd",), lrs)
        adaptive = [
            _arm(name, key, (0.03, 0.1) if key == "adagrad" else (0.01, 0.03))
            for name, key in ADAPTIVE.items()
        ]
        return plain, *adaptive

    def judge(self, rows: pd.DataFrame) -> Outcome:
        """See `rule`."""
        gains = {n: paired(rows, n, PLAIN) for n in dict.fromkeys(rows.arm) if n != PLAIN}
        leads = [gains[name] for name in ADAPTIVE]
        sentences = [
            f"{name} minus FedAvg: {gain.signed()} points of top-1 recall."
            for name, gain in gains.items()
        ]
        return Outcome(verdict_of(leads), _table(rows, gains), tuple(sentences))


def verdict_of(gains: list[Interval]) -> str:
    """Shows where all are above zero, does not where any is below."""
    if any(gain.below_zero for gain in gains):
        return DOES_NOT_SHOW
    return SHOWS if all(gain.above_zero for gain in gains) else UNRESOLVED


def _arm(name: str, optimizer: str, server_lrs: tuple[float, ...]) -> Arm:
    pairs = [(server, client) for server in server_lrs for client in (1.0, 3.0)]
    choices = tuple((f"optimizer.lr={server}", f"client.lr={client}") for server, client in pairs)
    return Arm(name, (f"optimizer={optimizer}",), choices)


def _table(rows: pd.DataFrame, gains: dict[str, Interval]) -> pd.DataFrame:
    paper = {figure.what: figure.value for figure in Reddi2021.published}
    return pd.DataFrame(
        {
            "server optimizer": name,
            "paper, top-1": paper[name],
            "here, top-1, %": over_seeds(own.top1).points(),
            "minus FedAvg, points": gains[name].signed() if name in gains else "",
            "chosen": own.chosen.iloc[0],
        }
        for name, own in rows.groupby("arm", sort=False)
    )
