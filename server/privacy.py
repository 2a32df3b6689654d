"""The config's mechanism, set up for its federation: what is allowed, and how much noise it takes.

All that it needs to know of the users is public: how many there are, who is drawn when, and the
most sequences that one has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from fedsim.combinations import check_failures, guarantees
from fedsim.config import Config, Named
from fedsim.errors import FedsimError
from fedsim.federation import Federation
from fedsim.leakage.canaries import donors
from fedsim.leakage.first_corpus import FirstCorpus
from fedsim.models import build
from fedsim.privacy import noise_keys
from fedsim.privacy.base import Mechanism, Setting
from fedsim.privacy.claims import Claim
from fedsim.privacy.events import Event
from fedsim.privacy.known_names import as_drawn
from fedsim.privacy.mechanisms import MECHANISMS
from fedsim.privacy.noise_keys import NoiseKey
from fedsim.privacy.plan import default_delta, largest_cohort
from fedsim.privacy.statement import as_text, statement
from fedsim.progress import silent
from fedsim.runs import Run
from server.sampling import Draw, most_participations
from server.state import ServerState

_AT_ONCE = 10_000  # users whose sizes are looked up together


def new_key(config: Config, federation: Federation, first: FirstCorpus | None = None) -> NoiseKey:
    """The key that a new run of a resolved config draws its noise from; a fresh one is not kept."""
    if getattr(config.privacy.options, "noise", "seeded") == "fresh":
        return noise_keys.fresh()
    text = federation.corpus.digest + (f"/{first.digest}" if first else "")
    return noise_keys.seeded(config.fingerprint(), text)


def key_of(
    run: Run, config: Config, federation: Federation, first: FirstCorpus | None = None
) -> NoiseKey:
    """The key of a run that goes on. Raises FedsimError where it is not here."""
    if getattr(config.privacy.options, "noise", "seeded") == "seeded":
        return new_key(config, federation, first)
    said = run.provenance.get("noise")
    if not isinstance(said, dict) or not isinstance(said.get("id"), str):
        raise FedsimError(
            f"{run.path / 'provenance.json'} does not say which key the noise is drawn from; "
            "restore it."
        )
    return noise_keys.kept(said["id"], run.path)


def draw_of(
    config: Config, federation: Federation, round: int, key: NoiseKey | None = None
) -> Draw:
    """What the sampler of a round may use; without a `key`, of a run that keeps nobody secret."""
    server, population = config.server, federation.population
    most = server.max_cohort
    if server.sampler == "truncated" and not most:
        most = largest_cohort(len(population), server.cohort)
    in_secret = key is not None and MECHANISMS[config.privacy.name].draws_in_secret
    secret = key.named("cohorts") if key is not None and in_secret else ""
    return Draw(population, server.cohort, config.seed, round, most, server.groups, secret)


def mechanism_of(config: Config, federation: Federation, key: NoiseKey | None = None) -> Mechanism:
    """The mechanism of a resolved config; without a `key` one that releases nothing."""
    setting = _setting(config, federation, key)
    return MECHANISMS[config.privacy.name](config.privacy.options, setting)


def resolved(
    config: Config, federation: Federation, notice: Callable[[str], None] = silent
) -> Config:
    """The config with its delta and, where it has a budget, the noise that keeps it.

    `notice` is told before that noise is looked for, which may take seconds: the first time in a
    process, since the accountants remember.

    Raises FedsimError where no guarantee can be given for what it says, and where the noise that
    it says does not keep the budget that it says.
    """
    check_failures(config)
    mechanism, rounds = mechanism_of(config, federation), config.server.rounds
    Mechanism.check(mechanism)  # the sampler first, then what the mechanism adds
    if "noise_multiplier" not in type(config.privacy.options).model_fields:
        return config
    if not config.privacy.options.delta:
        config = _with(config, delta=default_delta(mechanism.population))
        mechanism = mechanism_of(config, federation)
    mechanism.check()
    budget, noise = config.privacy.options.epsilon, config.privacy.options.noise_multiplier
    if budget and not noise:
        notice(f"calibrating the noise for privacy.epsilon={budget:g} ...")
        config = _with(config, noise_multiplier=mechanism.noise_for(budget))
        mechanism_of(config, federation)  # it may refuse so much noise
        return config
    guarantee = mechanism.guarantee(noise, rounds)
    if budget and guarantee and guarantee.epsilon > budget:
        kept = {
            "guarantee": guarantee.as_dict(),
            "users": len(federation.population),
            "options": config.privacy.options.model_dump(),
            **mechanism.beside(np.zeros(0, np.int32)),
        }
        claim = Claim.of(kept)
        raise FedsimError(
            f"privacy.noise_multiplier = {noise:g} does not keep privacy.epsilon={budget:g}; leave "
            "it out, and it is calibrated. " + (claim.sentence("With it epsilon") if claim else "")
        )
    return config


def what_is_guaranteed(config: Config, federation: Federation, given: Config) -> str:
    """What a resolved config guarantees, in the sentences that stand at the start of a run.

    given: the config before it was resolved, which tells a budget from a noise multiplier.
    """
    claim = Claim.of(stated(config, federation))
    if claim is None or math.isinf(claim.epsilon):
        return nothing_guaranteed(config)
    text = f"Guaranteed: {claim.sentence('epsilon of the whole run')}"
    options: Any = given.privacy.options
    if options.epsilon and options.noise_multiplier:
        text += (
            f" The noise is privacy.noise_multiplier={options.noise_multiplier:g}, as given; "
            f"privacy.epsilon={options.epsilon:g} is only held against it. Leave one of them out "
            "to be sure which is meant."
        )
    return text


def nothing_guaranteed(config: Config) -> str:
    """Why a config guarantees nothing to anybody, and what would; "" where it guarantees."""
    name = config.privacy.name
    if guarantees(config):
        return ""
    if "noise_multiplier" in type(config.privacy.options).model_fields:
        return (
            f"NO GUARANTEE: privacy '{name}' runs without noise, so nothing is guaranteed to "
            "anybody; set privacy.epsilon=8 or privacy.noise_multiplier."
        )
    what = "has no noise" if name != "none" else "bounds nothing"
    return (
        f"NO GUARANTEE: privacy '{name}' {what}, so nothing is guaranteed to anybody; "
        "privacy=dp-fedavg privacy.epsilon=8 guarantees something."
    )


def _with(config: Config, **values: float) -> Config:
    options = config.privacy.options.model_copy(update=values)
    return replace(config, privacy=Named(config.privacy.name, options))


def _setting(config: Config, federation: Federation, key: NoiseKey | None) -> Setting:
    server, first = config.server, draw_of(config, federation, 1)

    @lru_cache
    def participations(rounds: int) -> int:
        return most_participations(server.sampler, first, rounds)

    return Setting(
        key=key.secret if key else b"",
        users=len(federation.population),
        cohort=server.cohort,
        rounds=server.rounds,
        sampler=server.sampler,
        max_cohort=first.max_cohort,
        groups=server.groups,
        min_separation=server.min_separation,
        max_participations=server.max_participations,
        size=partial(_size, config, federation),
        most_sequences=partial(_most_sequences, federation),
        most_participations=participations,
        before=_before(federation),
    )


def _before(federation: Federation) -> tuple[Event, ...]:
    """What the corpus was made with of its training users: a private vocabulary."""
    release = federation.corpus.vocabulary_release
    if not release:
        return ()
    return (Event("threshold", release["noise_multiplier"], chance=release["chance"]),)


def _size(config: Config, federation: Federation) -> int:
    nowhere = torch.device("meta")  # sizes without the memory
    with nowhere:
        model = build(config.model.options, len(federation.corpus.vocabulary), nowhere)
    return model.n_parameters


def _most_sequences(federation: Federation) -> int:
    """Of one user."""
    population = federation.population
    most = 0
    for start in range(0, len(population), _AT_ONCE):
        sizes = federation.sizes(population[start : start + _AT_ONCE])
        most = max(most, int(sizes[:, 0].max(initial=0)))
    federation.corpus.forget_pages()
    return most


def stated(
    config: Config,
    federation: Federation,
    state: ServerState | None = None,
    run: Run | None = None,
    first: FirstCorpus | None = None,
) -> dict[str, Any] | None:
    """What a resolved config guarantees, and as far as it has come what happened; None without a
    mechanism."""
    if config.privacy.name == "none":
        return None
    mechanism = mechanism_of(config, federation)
    noise = getattr(config.privacy.options, "noise_multiplier", 0.0)
    guarantee = mechanism.guarantee(noise, config.server.rounds)
    took_part = state.participations if state else np.zeros(0, np.int32)
    more = {
        "rounds_done": state.round if state else 0,
        "realised": _realised(run) if run else {},
        "noise": _noise_said(config, run) if noise else None,
        "people": _people(config, federation, first),
        "vocabulary": _vocabulary(config, federation, mechanism),
        **mechanism.beside(took_part),
    }
    told = guarantee.as_dict() if guarantee else None
    if run and mechanism.unit == "user" and state and state.round == config.server.rounds:
        told, more = _as_drawn(run, told, more)
    return statement(config.as_dict(), told, mechanism.unit, len(federation.population), more)


def _as_drawn(
    run: Run, told: dict[str, Any] | None, more: dict[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Guarantee and the rest with what the names of a whole run's cohorts leave: who was drawn is
    known then, and it does not depend on anybody's text."""
    drawn = _most_drawn(run)
    own = more.get("own")
    if own and own.get("guarantee"):
        own = own | {"guarantee": as_drawn(own["guarantee"], drawn)}
        return told, more | {"drawn": drawn, "own": own}
    return (as_drawn(told, drawn) if told else None), more | {"drawn": drawn}


def _most_drawn(run: Run) -> int:
    """How often the user that was drawn most often was, whether it completed or not."""
    rows = pd.concat([run.clients[["user", "round"]], run.table("failures")[["user", "round"]]])
    counts = rows.drop_duplicates().user.value_counts()
    return int(counts.max()) if len(counts) else 0


def _noise_said(config: Config, run: Run | None) -> dict[str, Any]:
    """What the noise was drawn from and how, for the statement; no key."""
    kind, mechanism = config.privacy.options.noise, MECHANISMS[config.privacy.name]
    generator = noise_keys.GENERATOR
    if kind == "seeded":
        key = "follows from config and text: whoever has both can subtract the noise"
        if config.privacy.name == "dp-sgd":
            generator = "Philox4x64-10, no cryptographic generator"
    elif mechanism.clients_draw:
        key = (
            "each client machine's own, from its operating system; never sent, and there until it "
            "is removed (`cache keys --prune`, or clients.key in a node's folder): who gets it "
            "later can make the noise again"
        )
    else:
        key = "from the server's operating system; kept there until the run ends, then deleted"
    said = run.provenance.get("noise") if run else None
    id = said.get("id") if isinstance(said, dict) else None
    return {"kind": kind, "generator": generator, "key": key, "id": id,
            "arithmetic": mechanism.arithmetic, "of_clients": mechanism.clients_draw}  # fmt: skip


def _vocabulary(config: Config, federation: Federation, mechanism: Mechanism) -> dict[str, Any]:
    """How the words were chosen, and whether epsilon counts it."""
    release = federation.corpus.vocabulary_release
    if not release:
        return {"private": False, "word_users": config.data.word_users or 1}
    return {"private": True, "composed": mechanism.unit == "user", **release}


def _people(config: Config, federation: Federation, first: FirstCorpus | None) -> dict[str, Any]:
    """How many there are of whom a run reads text, by what it does with it."""
    corpus, synthetic = federation.corpus, federation.planted.users
    compared = first.overlap if first else None
    return {
        "training": int((federation.population < corpus.users).sum()),
        "canary_users": synthetic,
        "audit_users": federation.audit.users,
        "donors": len(donors(corpus)) if synthetic else 0,
        "validation": len(corpus.split("validation")),
        "test": len(corpus.split("test")),
        "set_apart": len(federation.set_apart),
        "first_corpus": first and {
            "name": first.name,
            "people": len(first.people),
            "trained": bool(config.pretrain.epochs),
            "overlap": compared and compared.as_dict(),
        },
    }  # fmt: skip


def write_statement(
    run: Run,
    config: Config,
    federation: Federation,
    state: ServerState,
    first: FirstCorpus | None = None,
) -> None:
    """Into the run's folder; nothing without a mechanism."""
    said = stated(config, federation, state, run, first)
    if said is not None:
        run.save_statement(said, as_text(said))


def _realised(run: Run) -> dict[str, int]:
    """How often users took part, and how far apart the nearest two rounds of one user were."""
    rows = run.clients[["user", "round"]].sort_values(["user", "round"])
    if not len(rows):
        return {}
    gaps = rows["round"].diff()[rows.user.diff() == 0]
    out = {"participations": int(rows.user.value_counts().max())}
    return out | ({"min_separation": int(gaps.min())} if len(gaps) else {})
