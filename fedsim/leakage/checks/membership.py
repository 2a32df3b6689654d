"""Membership inference where theory says what it must find."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from fedsim.data.sequences import Sequences, offsets_of
from fedsim.device import threads
from fedsim.leakage import attacks, blind, clusters, roc
from fedsim.leakage.scoring import score
from fedsim.leakage.selfcheck import CHECKS, Check
from fedsim.models import N_SPECIALS, CifgOptions, KneserNey, LanguageModel, build
from fedsim.seeding import stream, torch_stream

V = N_SPECIALS + 196
# N(mu, 1) against N(0, 1): mu -> AUC = Phi(mu / sqrt 2), TPR = Phi(mu - z) at 1 % and 0.1 % FPR.
GAUSSIANS = {1.0: (0.76025, 0.09236, 0.01830), 2.0: (0.92135, 0.37208, 0.13781)}
# epsilon -> the highest AUC against a Gaussian mechanism at delta = 1e-5.
CEILINGS = {1.0: 0.5752, 2.0: 0.6386, 4.0: 0.7435, 8.0: 0.8806, 16.0: 0.9800}


@CHECKS.register("membership rates")
def roc_of_gaussians() -> list[Check]:
    """AUC and TPR of synthetic scores, ties, and what differential privacy allows."""
    n, checks = 200_000, []
    for mu, (area, *rates) in GAUSSIANS.items():
        rng = stream(0, f"selfcheck membership {mu}")
        members, others = rng.normal(mu, size=n), rng.normal(size=n)
        found = roc.auc(members, others)
        checks.append(_near(f"AUC of N({mu:g}, 1) against N(0, 1)", area, found, 4 / math.sqrt(n)))
        for fpr, rate in zip(roc.FPRS, rates, strict=True):
            # Deviation of the threshold, through the members' density there, and of their share.
            z = float(stats.norm.isf(fpr))
            ratio = math.exp(mu * z - mu * mu / 2)
            deviation = math.sqrt((fpr * ratio**2 + rate) / n)
            found = roc.tpr(members, others, fpr).value
            checks.append(
                _near(f"TPR of N({mu:g}, 1) at {100 * fpr:g} % FPR", rate, found, 4 * deviation)
            )
    same = np.zeros(2000)
    checks.append(_near("AUC of scores that are all the same", 0.5, roc.auc(same, same), 0))
    found = roc.tpr(same, same, 0.01).value
    checks.append(_near("TPR of scores that are all the same", 0.0, found, 0))
    for epsilon, most in CEILINGS.items():
        found = roc.gaussian_auc(roc.gaussian_mu(epsilon, 1e-5))
        checks.append(_near(f"highest AUC at epsilon {epsilon:g}", most, found, 5e-5))
    return checks


@CHECKS.register("membership intervals")
def coverage() -> list[Check]:
    """DeLong's variance and coverage; the bootstrap's where users differ and training does not."""
    rng, runs, m, n = stream(0, "selfcheck DeLong"), 500, 40, 60
    drawn = [(rng.normal(size=m), rng.normal(size=n)) for _ in range(runs)]
    variances = [roc.delong_variance(*pair) for pair in drawn]
    ratio = float(np.mean(variances)) / roc.null_deviation(m, n) ** 2
    covered = [_covers(roc.delong(a + 1.0, b), GAUSSIANS[1.0][0]) for a, b in drawn]
    checks = [
        _near("DeLong's variance over that of the null, (m + n + 1) / 12mn", 1.0, ratio, 0.05),
        Check("DeLong's interval has the AUC in 95 %", float(np.mean(covered)), 0.92, 0.98),
    ]
    rng, covered = stream(0, "selfcheck bootstrap over users"), []
    for _ in range(200):
        users = np.repeat(np.arange(60), 10)
        scores = rng.normal(size=60)[users] + 0.5 * rng.normal(size=len(users))
        mine = users < 30
        groups = scores[mine], scores[~mine], users[mine], users[~mine]
        covered.append(_covers(clusters.clustered_auc(*groups, rng, 200), 0.5))
    found = float(np.mean(covered))
    return [*checks, Check("the bootstrap over users has 0.5 in 95 % of splits", found, 0.89, 0.99)]


@CHECKS.register("membership scores")
def scores_of_an_untrained_model() -> list[Check]:
    """Every attack on a model that never saw a sentence; short sentences; neighbours."""
    text = random_text(1000, 12, "selfcheck members")
    rng = stream(0, "selfcheck membership split")
    member = rng.permutation(len(text)) < len(text) // 2
    checks = []
    with threads(1):
        model, trigram = tiny_model(), KneserNey.fit([random_text(500, 12, "selfcheck others")], V)
        near = attacks.neighbours_of(text, trigram, 4, rng)
        own, known = score(model, text, moments=True), score(trigram, text)
        found = {
            "loss": attacks.loss(own),
            "zlib": attacks.zlib(own, [" ".join(f"w{i}" for i in s) for s in text]),
            "min-k": attacks.min_k(own),
            "min-k++": attacks.min_k_plus(own),
            "reference": attacks.reference(own, known),
            "neighbour": attacks.neighbour(own, score(model, near)),
        }
    reach = 2.6 * roc.null_deviation(int(member.sum()), int((~member).sum()))
    for name, values in found.items():
        area = roc.auc(values[member], values[~member])
        checks.append(_near(f"AUC of {name} on an untrained model", 0.5, area, reach))
    short = text.lengths <= 4
    lowest = np.array([own.log_probs[a:b].min() for a, b in _spans(own.offsets)])
    least = float(np.abs(found["min-k"] - lowest)[short].max())
    checks.append(_near("min-k of at most four words is the least likely word", 0.0, least, 1e-12))
    copies = text.take(np.repeat(np.arange(len(text)), 4))
    changed = np.add.reduceat(copies.tokens != near.tokens, copies.offsets[:-1])
    checks.append(_near("words that differ in a neighbour", 1.0, float(changed.mean()), 0))
    specials = float((near.tokens < N_SPECIALS).sum() + (near.tokens >= V).sum())
    checks.append(_near("words of neighbours outside of the vocabulary", 0.0, specials, 0))
    size = float(attacks.compressed_bytes(["ok"])[0])
    return [*checks, _near("bytes of 'ok' beyond zlib's header", 2.0, size, 0)]


@CHECKS.register("membership blind")
def words_of_a_split() -> list[Check]:
    """The classifier of words where the split leaks, and where people have words of their own."""
    people, each = 200, 8
    users = np.repeat(np.arange(people), each)
    member = users < people // 2
    rng = stream(0, "selfcheck words")
    tokens = rng.integers(N_SPECIALS, V, size=(len(users), 6)).astype(np.int32)
    # Each person's sentences have a word in common, which says nothing of another person.
    tokens[:, 0] = rng.permutation(V - N_SPECIALS)[users % (V - N_SPECIALS)] + N_SPECIALS
    areas = {}
    for leak in (False, True):
        if leak:
            tokens[:, 1] = np.where(
                member & (rng.random(len(users)) < 0.5), N_SPECIALS, tokens[:, 1]
            )
        text = Sequences(tokens.ravel(), np.arange(len(tokens) + 1) * tokens.shape[1])
        words = blind.bag_of_words(text, V, np.arange(len(text)))
        values = blind.out_of_fold(words, member, users, rng)
        groups = values[member], values[~member], users[member], users[~member]
        areas[leak] = clusters.clustered_auc(*groups, rng, 500)
    clean, leaking = areas[False], areas[True]
    half = 1.3 * (clean.high - clean.low) / 2
    return [
        _near("AUC of the words where groups differ by nothing", 0.5, clean.value, half),
        Check(
            "AUC of the words where half of the members' text is marked", leaking.low, 0.65, 0.80
        ),
    ]


def random_text(sentences: int, most: int, purpose: str) -> Sequences:
    """Sentences of 1 to `most` words, some words more frequent than others."""
    rng = stream(0, purpose)
    lengths = rng.integers(1, most + 1, size=sentences)
    words = N_SPECIALS + (rng.random(int(lengths.sum())) ** 2 * (V - N_SPECIALS)).astype(np.int32)
    return Sequences(words.astype(np.int32), offsets_of(lengths))


def tiny_model() -> LanguageModel:
    """A model as it is drawn."""
    model = build(CifgOptions(embedding=16, hidden=24), V)
    model.initialise(torch_stream(0, "selfcheck model"))
    return model.eval()


def _near(truth: str, expected: float, found: float, reach: float) -> Check:
    return Check(f"{truth}: {expected:g}", found, expected - reach, expected + reach)


def _covers(area: roc.Estimate, truth: float) -> bool:
    return area.low <= truth <= area.high


def _spans(offsets: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
