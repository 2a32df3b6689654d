"""The measure `canaries`: how far planted sentences were memorised, and whether they can be typed
out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import stats

from fedsim.errors import FedsimError
from fedsim.leakage import examination, ranks
from fedsim.leakage.base import MEASURES, NAN, Finding, Findings, Measure, Subject
from fedsim.leakage.extrapolation import REFUSED
from fedsim.leakage.intervals import (
    CLOPPER_PEARSON,
    bootstrap_over,
    clopper_pearson,
    mean_interval,
    over_users,
    student_t_over,
)
from fedsim.leakage.unseen import chance_of
from fedsim.seeding import stream

EXPOSURES = ("exposure_bits", "exact_exposure_bits", "extrapolated_exposure_bits")
LEAST_P = 1e-6  # that is told
BETWEEN = student_t_over("canaries")


@MEASURES.register("canaries")
class Canaries(Measure):
    """Carlini et al. 2019 (The Secret Sharer), over the grid of Ramaswamy et al. 2020."""

    prefix_words: int = Field(
        0, ge=0, le=4, description="words that extraction starts from; 0: canaries.prefix_words"
    )
    beams: int = Field(5, ge=1, description="completions that beam search keeps")
    guesses: int = Field(
        100_000, ge=1000, description="random completions that a canary must be likelier than"
    )
    exact_controls: int = Field(
        10, ge=0, description="held-out canaries ranked exactly, as all planted ones are"
    )

    title: ClassVar[str] = "Canaries: exposure and extraction"
    threat: ClassVar[str] = "holds the global model"
    meaning: ClassVar[str] = (
        "Sampled exposure, the leading figure, ranks a canary among random sentences: 1.4 bits is "
        "what chance gives, at ten bits it comes before a thousand others, which is all that a "
        "thousand can show. Exact exposure ranks its last two words among all pairs of words "
        "after its first three, so it is another figure and not a better one. Extrapolated "
        "exposure goes beyond the sample by a fitted law, where that fits. Extraction says how "
        "often an adversary who knows its first words gets the rest out of the model."
    )

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`; needs a run that planted canaries."""
        planted, corpus = subject.federation.planted, subject.federation.corpus
        if not planted.users:
            raise FedsimError(
                "This run planted no canaries; train with canaries.per_cell=1 or more."
            )
        table = examination.examine(
            subject.model,
            planted,
            subject.federation.holder_participations(subject.participations),
            len(corpus.vocabulary),
            stream(subject.seed, "canary-guesses"),
            prefix_words=self.prefix_words or subject.config.canaries.prefix_words,
            beams=self.beams,
            guesses=self.guesses,
            exact_controls=self.exact_controls,
            heard=subject.heard,
        )
        rng = stream(subject.seed, "canary-bootstrap")
        references = len(planted.references)
        pairs = (len(corpus.vocabulary) - ranks.N_SPECIALS) ** 2
        return Findings(summarised(table, references, pairs, rng), {"canaries": table})


def summarised(
    table: pd.DataFrame, references: int, pairs: int, rng: np.random.Generator
) -> list[Finding]:
    """The rows of a table of `examine`. `pairs`: the size of the exact rank's space.

    Canaries whose holders never took part were not trained on: they are counted and left out.
    """
    planted, controls = table[table.kind == "planted"], table[table.kind == "held_out"]
    trained = planted[planted.holder_participations > 0]
    most = {"exposure_bits": math.log2(references + 1), "exact_exposure_bits": math.log2(pairs)}
    rows = [
        *_controls_exposure(controls, references, pairs),
        *(
            row
            for name in EXPOSURES
            for row in _exposure(name, trained, controls, references, most)
        ),
        *(row for name in examination.METHODS for row in _extraction(name, trained, controls)),
        *(_trend(name, trained, rng) for name in EXPOSURES),
    ]
    idle = planted[planted.holder_participations == 0].canary
    note = "took part in no round, so they are in no other row: " + ", ".join(map(str, idle))
    row = Finding(
        "canaries_not_trained", float(len(idle)), n=len(planted), note=note if len(idle) else ""
    )
    return [*rows, row]


def _cells(trained: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All trained canaries together, then those of each cell of the grid."""
    if len(trained):
        yield "all planted", trained
    for (users, repeats), cell in trained.groupby(["users", "repeats"]):
        yield f"users={users} repeats={repeats}", cell


def _controls_exposure(controls: pd.DataFrame, references: int, pairs: int) -> Iterator[Finding]:
    """Held-out canaries: their mean is known, and their ranks are uniform."""
    chance = ranks.null_mean_bits(references + 1)
    known = (chance, ranks.null_mean_bits(pairs), chance)
    for name, expected in zip(EXPOSURES, known, strict=True):
        values = controls[name].dropna().to_numpy()
        mean, low, high = mean_interval(values)
        note = f"chance gives {expected:.2f}"
        yield Finding(name, mean, "held out", len(values), low, high, BETWEEN, expected, note)
    size = references + 1
    sampled = np.round(size / 2 ** controls.exposure_bits.to_numpy())
    p_value = stats.kstest((sampled - 0.5) / size, "uniform").pvalue
    note = "below 0.001 the references would not be of the canaries' law"
    yield Finding("uniform_rank_p", float(p_value), "held out", len(controls), note=note)


def _exposure(
    name: str,
    trained: pd.DataFrame,
    controls: pd.DataFrame,
    references: int,
    most: Mapping[str, float],
) -> Iterator[Finding]:
    """Mean exposure of each cell beside that of the held-out canaries; no end of an interval is
    outside of what there can be: 0 and `most`."""
    control = float(controls[name].mean())  # NaN where none was ranked exactly
    for group, cell in _cells(trained):
        mean, low, high = mean_interval(cell[name].to_numpy())
        low, high = max(low, 0.0), min(high, most.get(name, math.inf))
        interval = BETWEEN
        if len(cell) == 1:
            low, high, interval = _of_one(name, mean, references)
        note = _note(name, cell)
        yield Finding(name, mean, group, len(cell), low, high, interval, control, note)


def _of_one(name: str, bits: float, references: int) -> tuple[float, float, str]:
    """One canary's interval is over the references, which are a sample; nothing else about it is.

    At the ceiling it has no upper end: NaN.
    """
    if name != "exposure_bits":
        return NAN, NAN, ""
    as_likely = round((references + 1) / 2**bits) - 1
    low, high = clopper_pearson(as_likely, references)
    above = -math.log2(low) if low > 0 else NAN
    return -math.log2(high), above, f"{CLOPPER_PEARSON} over references"


def _note(name: str, cell: pd.DataFrame) -> str:
    """What stands between the number and its quotation."""
    if name == "exposure_bits":
        ceiling = cell.ceiling_bits.iloc[0]
        highest = cell[name].max() == ceiling
        least = f"at least: one is at the ceiling of {ceiling:.2f} bits; " if highest else ""
        p = chance_of(cell[name])
        return (
            f"{least}unseen ones have as much with p {f'= {p:.1g}' if p >= LEAST_P else '< 1e-6'}"
        )
    if name == "exact_exposure_bits":
        first = int((cell.exact_rank == 1).sum())
        return f"{first} of {len(cell)} the likeliest of all pairs of words"
    p_value = cell.ks_p.iloc[0]
    if p_value < REFUSED:
        return f"no figure: the references are not skew-normal (KS p = {p_value:.1g})"
    return f"skew-normal fit (KS p = {p_value:.2f}), cut at the number of all sentences"


def _extraction(method: str, trained: pd.DataFrame, controls: pd.DataFrame) -> Iterator[Finding]:
    """How many of each cell, and of the held-out canaries, a method gets out of the model."""
    for group, cell in [*_cells(trained), ("held out", controls)]:
        hits, n = int(cell[method].sum()), len(cell)
        low, high = clopper_pearson(hits, n)
        control = float(controls[method].mean())
        group = f"{group} method={method}"
        yield Finding("extraction_rate", hits / n, group, n, low, high, CLOPPER_PEARSON, control)


def _trend(name: str, trained: pd.DataFrame, rng: np.random.Generator) -> Finding:
    """Rank correlation of exposure with copies in the training text; 0 where nothing leaked."""
    copies = (trained["users"] * trained["repeats"]).to_numpy()
    bits = trained[name].to_numpy()

    def correlation(chosen: np.ndarray) -> float:
        x, y = stats.rankdata(copies[chosen]), stats.rankdata(bits[chosen])
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return NAN
        return float(np.corrcoef(x, y)[0, 1])

    n = len(trained)
    every = np.arange(n)
    low, high = over_users(correlation, every, rng)
    return Finding(
        "spearman_with_copies",
        correlation(every) if n > 1 else NAN,
        name,
        n,
        low,
        high,
        bootstrap_over("canaries"),
        0.0,
        "users x repeats of each trained canary",
    )
