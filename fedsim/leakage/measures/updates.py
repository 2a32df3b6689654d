"""What a server reads from the update of one client: words, counts and whole sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from fedsim.config import Config, from_dict
from fedsim.data.sequences import Sequences
from fedsim.device import threads
from fedsim.errors import FedsimError
from fedsim.leakage import update_attack, update_defences
from fedsim.leakage.base import MEASURES, Finding, Findings, Measure, Subject
from fedsim.leakage.update_attack import Sent
from fedsim.leakage.update_findings import Cell, findings, sentence_table
from fedsim.models import build
from fedsim.models.base import LanguageModel
from fedsim.parameters import Layout, Parameters
from fedsim.seeding import stream, torch_stream
from fedsim.steps import Steps

ANY = 10**9  # words of a sentence


@MEASURES.register("updates")
class Updates(Measure):
    """Words and sentences from one update: DAGER (Petrov et al. 2024), and its like for LSTMs."""

    title: ClassVar[str] = "What one client's update says"
    threat: ClassVar[str] = "the server, with the update of one client and the model it was made of"
    meaning: ClassVar[str] = (
        "Without a defence a server that looks at single updates reads which words were typed, and "
        "while there are fewer words than the layer has dimensions, the sentences. A zero means "
        "that these attacks fail, not that every attack would."
    )

    clients: int = Field(5, ge=1, description="members whose updates are attacked in each row")
    sequences: tuple[PositiveInt, ...] = Field(
        (1, 8, 16, 32, 64), description="sentences of a client, of any length, under FedSGD"
    )
    few: int = Field(8, ge=1, description="sentences of a client under local steps and defences")
    words: int = Field(7, ge=1, description="the most of a sentence there, so that they can fit")
    steps: tuple[PositiveInt, ...] = Field((1, 2, 4), description="local steps of FedAvg")
    clip_norm: float = Field(0.1, gt=0, description="of an update, in l2, before noise as well")
    noise_multiplier: float = Field(1.0, gt=0, description="of the sum over a cohort")
    cohorts: tuple[PositiveInt, ...] = Field(
        (1, 10, 100), description="users that share the noise: each adds 1/sqrt(cohort) of it"
    )
    tiny_noise: float = Field(1e-4, gt=0, description="deviation of a coordinate, no more")
    kept: float = Field(0.1, gt=0, le=1, description="share of coordinates under sparsification")
    sums: tuple[PositiveInt, ...] = Field((10, 50), description="users of a secure sum")
    fresh: bool = Field(True, description="also at the model of round 1, when nothing is learned")

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`."""
        if subject.bench is None:
            raise FedsimError("The measure 'updates' trains clients; give its subject a bench.")
        rows: list[Finding] = []
        tables: list[pd.DataFrame] = []
        vocabulary = subject.federation.corpus.vocabulary.words
        with threads(1):
            phases = Steps(self._sentences(), subject.heard)
            for cell, phase in zip(self._cells(subject), self._sentences(), strict=True):
                reads = [
                    update_attack.read(cell.model, sent, subject.config.data.max_words)
                    for sent in phases.over(phase, cell.sent, len(cell.sent))
                ]
                rows += findings(cell, reads)
                if len(reads) == len(cell.texts):
                    tables.append(sentence_table(cell, reads, vocabulary))
        return Findings(rows, {"sentences": pd.concat(tables, ignore_index=True)})

    def _cells(self, subject: Subject) -> Iterator[Cell]:
        for name, model in self._models(subject):
            for count in self.sequences:
                yield self._plain(subject, model, f"model={name}", count, ANY)
            few = self._plain(subject, model, f"model={name}", self.few, self.words)
            yield few
            for steps in self.steps:
                yield self._averaging(subject, few, f"model={name}", steps)
            if model is subject.model:
                yield from self._defended(subject, few, f"model={name}")
                for users in self.sums:
                    yield self._summed(subject, model, f"model={name}", users)

    def _sentences(self) -> dict[str, float]:
        """By the place of each of `_cells`: of how many sentences its updates are, which says how
        long they take to read."""
        each = [self.clients * count for count in (*self.sequences, self.few)]
        each += [self.clients * self.few] * len(self.steps)
        defended = [self.clients * self.few] * (4 + len(set(self.cohorts)))
        summed = [self.few * users for users in self.sums]
        cells = [*each, *defended, *summed, *(each if self.fresh else ())]
        return {str(place): float(count) for place, count in enumerate(cells)}

    def _models(self, subject: Subject) -> Iterator[tuple[str, LanguageModel]]:
        yield "run", subject.model
        if self.fresh:
            model = build(subject.config.model.options, subject.model.vocabulary_size)
            model.initialise(torch_stream(subject.config.seed, "init"))
            yield "fresh", model.eval()

    def _plain(
        self, subject: Subject, model: LanguageModel, where: str, count: int, words: int
    ) -> Cell:
        """FedSGD, no defence."""
        users, texts = draw(subject, count, words, self.clients)
        updates = updates_of(subject, model, texts, fedsgd(subject.config))
        sent = [
            Sent(u, True, True, count, len(update_attack.typed(t)))
            for u, t in zip(updates, texts, strict=True)
        ]
        length = "any" if words == ANY else f"up-to-{words}"
        group = f"{where} strategy=fedsgd sequences={count} words={length} defence=none"
        return Cell(group, model, users, texts, tuple(sent))

    def _averaging(self, subject: Subject, few: Cell, where: str, steps: int) -> Cell:
        """FedAvg in one epoch of `steps` batches, on the same clients."""
        config = fedavg(subject.config, -(-self.few // steps))
        updates = updates_of(subject, few.model, few.texts, config)
        sent = [
            replace(s, update=u, gradient=False, exact=False)
            for s, u in zip(few.sent, updates, strict=True)
        ]
        group = f"{where} strategy=fedavg steps={steps} sequences={self.few} defence=none"
        return replace(few, group=group, sent=tuple(sent))

    def _defended(self, subject: Subject, few: Cell, where: str) -> Iterator[Cell]:
        where = f"{where} strategy=fedsgd sequences={self.few} defence="
        layout = Layout.of(few.model)

        def cell(name: str, sent: list[Sent]) -> Cell:
            return replace(few, group=where + name, sent=tuple(sent))

        # The server does not see by how much an update was clipped: its scale is unknown.
        clip = [
            replace(s, update=update_defences.clipped(s.update, self.clip_norm), exact=False)
            for s in few.sent
        ]
        yield cell("clip", clip)
        deviations = {f"noise deviation={self.tiny_noise:g}": self.tiny_noise}
        for cohort in self.cohorts:
            share = self.noise_multiplier * self.clip_norm / cohort**0.5
            deviations[f"noise z={self.noise_multiplier:g} cohort={cohort}"] = share
        rng = stream(subject.seed, "updates noise")
        for name, deviation in deviations.items():
            noised = [update_defences.noised(s.update, deviation, rng) for s in clip]
            pairs = zip(clip, noised, strict=True)
            yield cell(name, [replace(s, update=u, noise=deviation) for s, u in pairs])
        sparse = [update_defences.sparsified(s.update, self.kept) for s in few.sent]
        whole = [update_defences.quantised(s.update, layout) for s in few.sent]
        for name, updates in ((f"top-{self.kept:.0%}", sparse), ("int8", whole)):
            pairs = zip(few.sent, updates, strict=True)
            yield cell(name, [replace(s, update=u) for s, u in pairs])

    def _summed(self, subject: Subject, model: LanguageModel, where: str, users: int) -> Cell:
        """All that secure aggregation shows: one sum, held against the text of single users."""
        group = f"{where} strategy=fedsgd sequences={self.few} defence=secure-sum users={users}"
        chosen, texts = draw(subject, self.few, self.words, users)
        if len(chosen) < users:
            return Cell(group, model, (), (), ())
        updates = updates_of(subject, model, texts, fedsgd(subject.config))
        everyone = Sequences.concatenate(texts)
        size = len(update_attack.typed(everyone))
        total = Sent(update_defences.summed(updates), True, False, users * self.few, size)
        victims = min(self.clients, users)
        return Cell(group, model, chosen[:victims], texts[:victims], (total,), everyone)


def draw(
    subject: Subject, count: int, words: int, clients: int
) -> tuple[tuple[int, ...], tuple[Sequences, ...]]:
    """Members that hold `count` sentences of 1 to `words` words, and so many of each one's.

    Fewer than `clients` where there are no more.
    """
    rng = stream(subject.seed, f"updates clients {count} {words}")
    users: list[int] = []
    texts: list[Sequences] = []
    for user in rng.permutation(subject.members):
        if len(users) == clients:
            break
        text = subject.federation.sequences(int(user))
        fitting = np.flatnonzero((text.lengths > 0) & (text.lengths <= words))
        if len(fitting) >= count:
            users.append(int(user))
            texts.append(text.take(rng.choice(fitting, count, replace=False)))
    return tuple(users), tuple(texts)


def updates_of(
    subject: Subject, model: LanguageModel, texts: tuple[Sequences, ...], config: Config
) -> list[np.ndarray]:
    """What the clients would send at `model`."""
    assert subject.bench is not None
    return subject.bench.updates(Parameters.from_model(model), texts, config)


def fedsgd(config: Config) -> Config:
    """The run's config with exact gradients and no mechanism."""
    tree = config.as_dict()
    return from_dict({**tree, "strategy": {"name": "fedsgd"}, "privacy": {"name": "none"}})


def fedavg(config: Config, batch_size: int) -> Config:
    """The run's local training in one epoch of batches of that size, and no mechanism."""
    tree = config.as_dict()
    client = {**tree["client"], "epochs": 1, "batch_size": batch_size}
    averaging = {"strategy": {"name": "fedavg"}, "privacy": {"name": "none"}, "client": client}
    return from_dict({**tree, **averaging})
