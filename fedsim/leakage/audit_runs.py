"""Audit runs: short runs of a config with update canaries, and what an observer makes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fedsim.config import Config, Named
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage.update_canaries import WITHOUT_CLIPPING, UpdateCanaries
from fedsim.privacy.base import Setting
from fedsim.privacy.claims import Claim
from fedsim.privacy.mechanisms import MECHANISMS
from fedsim.privacy.mechanisms.ftrl import Ftrl
from fedsim.privacy.mechanisms.user_level import UserLevel
from fedsim.privacy.plan import default_delta
from fedsim.runs import Run

USUAL_DELTA = 1e-5
SCORED_USERS = 50  # of each split: an audit run's scores are not looked at


@dataclass(frozen=True)
class Observed:
    """What an observer of every released mean update has, canary by canary.

    included (canaries,): the coins, which the observer does not know. scores (canaries,): high
    where it thinks that the canary was in. sums (canaries,): the inner product of its direction
    with the sum of all released updates, in what one participation adds to it.
    """

    included: np.ndarray
    scores: np.ndarray
    sums: np.ndarray


def audit_config(
    config: Config, real_users: int, canaries: int, rounds: int, cohort: int, seed: int
) -> Config:
    """The config of an audit run: the same mechanism, sampler and noise multiplier, fewer rounds.

    real_users: users of the corpus that are sampled. cohort: users a round; 0, or more than there
    are, means all (of a group), whose noise is then not that of a larger cohort. No sentences are
    planted, no baselines trained, and what a cyclic sampler promises is what it keeps in this
    schedule.
    """
    allowed = [name for name in MECHANISMS if _is_audited(name)]
    if config.privacy.name not in allowed:
        raise FedsimError(
            f"privacy = '{config.privacy.name}' is not audited: update canaries try what a user's "
            f"whole update gives away through released models; take one of {', '.join(allowed)}."
        )
    users = real_users + canaries
    everybody = users // max(config.server.groups, 1)
    server = {
        "rounds": rounds,
        "cohort": min(cohort or everybody, everybody),
        "max_cohort": 0,
        "min_separation": 0,
        "max_participations": 0,
        "average": 0.0,
        "checkpoint_every": rounds,
    }
    evaluation = {"every": rounds, "users": SCORED_USERS, "trigram": False, "central": False}
    planted = {"measures": (), "every": 0, "update_canaries": canaries}
    return replace(
        config,
        seed=seed,
        server=config.server.model_copy(update=server),
        evaluation=config.evaluation.model_copy(update=evaluation),
        canaries=config.canaries.model_copy(update={"per_cell": 0}),
        audit=config.audit.model_copy(update=planted),
        privacy=_same_noise(config.privacy, users, cohort),
    )


def _same_noise(privacy: Named, users: int, cohort: int) -> Named:
    """The noise multiplier is kept, not the budget; delta stays below what N users allow."""
    options = privacy.options
    if not getattr(options, "noise_multiplier", 0.0):
        return privacy
    if not cohort:
        options = options.model_copy(update={"report_cohort": 0, "report_users": 0})
    least = default_delta(max(users, options.report_users))
    delta = min(options.delta or least, least)
    return Named(privacy.name, options.model_copy(update={"epsilon": 0.0, "delta": delta}))


def proven(run: Run) -> tuple[float, float]:
    """(epsilon, delta) that an audit run's own statement promises; infinite where it does not, at
    a delta that is usual.

    Where the noise of a larger cohort is simulated, that of the users who were really there.
    """
    claim = claimed(run)
    if claim is None:
        guarantee = (run.privacy or {}).get("guarantee")
        usual = min(USUAL_DELTA, default_delta(_population(run)))
        return math.inf, float(guarantee["delta"]) if guarantee else usual
    return claim.epsilon, claim.delta


def claimed(run: Run) -> Claim | None:
    """What an audit run promises the users who were really there; None where it is nothing."""
    claim = Claim.of(run.privacy)
    return claim.own if claim else None


def gaussian(run: Run) -> bool:
    """Whether the run's trade-off is a Gaussian's: nothing is gained from hidden cohorts."""
    config = run.config
    return config.server.sampler == "cyclic" or config.server.cohort >= _population(run)


def observed(run: Run) -> Observed:
    """The scores of an observer that knows the mechanism and, where it is no secret, who is drawn.

    Under "cyclic" the schedule is known: a canary's rounds are weighted as the noise's covariance
    over rounds asks for, which is the most powerful test. Else it is the likelihood ratio of a
    direction that is in each round's sum with chance cohort / users, in noise of the deviation
    that all rounds' projections have (its median, so that those who are in hardly count).
    """
    config, table = run.config, run.table("audit")
    canaries = UpdateCanaries(config.audit.update_canaries, config.seed)
    if not run.clients["canary_user"].any():
        raise FedsimError(
            f"No update canary completed a round of {run.path}, so nothing was audited: all were "
            "refused, or none was drawn; see its run.log, or raise epsilon.rounds."
        )
    shape = config.server.rounds, canaries.users
    ordered = table.sort_values(["round", "canary"])
    if not np.isfinite(ordered["projection"]).all():
        raise FedsimError(f"The audit run {run.path} diverged; lower client.lr.")
    drawn = ordered["drawn"].to_numpy().reshape(shape)
    added = ordered["projection"].to_numpy().reshape(shape) / _one_participation(run)[:, None]
    if config.server.sampler == "cyclic":
        scores = (_weights(run, drawn) * added).sum(0)
    else:
        scores = _log_ratio(added, config.server.cohort / _population(run))
    return Observed(canaries.included, scores, added.sum(0))


def _one_participation(run: Run) -> np.ndarray:
    """By how much a canary that takes part moves its projection in each round, (rounds,)."""
    if run.config.privacy.name == "none":
        return WITHOUT_CLIPPING / np.maximum(run.rounds["sequences"].to_numpy(), 1)
    return run.table("privacy")["clip_norm"].to_numpy() / run.config.server.cohort


def _log_ratio(added: np.ndarray, rate: float) -> np.ndarray:
    """Summed over rounds: log of (1 - q) N(0, s^2) + q N(1, s^2) over N(0, s^2), at `added`."""
    deviation = 1.4826 * float(np.median(np.abs(added - np.median(added))))
    alone = (added - 0.5) / max(deviation, 1e-6) ** 2
    if rate >= 1:
        return alone.sum(0)
    return np.logaddexp(np.log1p(-rate), np.log(rate) + alone).sum(0)


def _weights(run: Run, drawn: np.ndarray) -> np.ndarray:
    """The inverse covariance of the noise over rounds times each canary's schedule."""
    config = run.config
    kind = MECHANISMS[config.privacy.name]
    if not issubclass(kind, Ftrl) or not config.privacy.options.noise_multiplier:
        return drawn.astype(np.float64)
    rows = _noise_rows(kind(config.privacy.options, _setting(run)), config.server.rounds)
    return np.linalg.solve(rows @ rows.T, drawn.astype(np.float64))


def _noise_rows(mechanism: Ftrl, rounds: int) -> np.ndarray:
    """(rounds, draws): how each round's noise is made of the independent draws."""
    seen: dict[int, int] = {}
    columns = 8 * rounds + 64  # a tree that is completed at every restart takes fewer

    def fresh(index: int) -> np.ndarray:
        unit = np.zeros(columns)
        unit[seen.setdefault(index, len(seen))] = 1
        return unit

    made = mechanism.factorisation
    state, rows = made.initial_state(columns), np.zeros((rounds, columns))
    for round in range(1, rounds + 1):
        rows[round - 1], state = made.noise(round, fresh, state)
    return rows


def _setting(run: Run) -> Setting:
    """As the run's server had it, as far as its noise depends on it."""
    server = run.config.server
    return Setting(
        key=b"",
        users=_population(run),
        cohort=server.cohort,
        rounds=server.rounds,
        sampler=server.sampler,
        max_cohort=server.max_cohort,
        groups=server.groups,
        min_separation=server.min_separation,
        max_participations=server.max_participations,
        size=lambda: 1,
        most_sequences=lambda: 1,
        most_participations=lambda rounds: rounds,
    )


def _population(run: Run) -> int:
    return len(open_federation(run.config).population)


def _is_audited(mechanism: str) -> bool:
    return mechanism == "none" or issubclass(MECHANISMS[mechanism], UserLevel)
