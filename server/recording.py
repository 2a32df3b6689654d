"""The listener that writes a run's record: tables, checkpoints, exposure, progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedsim.config import Config
from fedsim.data.text import Tokenization
from fedsim.device import resolve_device, threads
from fedsim.divergence import Norms
from fedsim.errors import FedsimError, last_line
from fedsim.evaluation import summarise
from fedsim.federation import Federation
from fedsim.interrupts import held_back
from fedsim.leakage.exposure import measure_exposure
from fedsim.leakage.first_corpus import FirstCorpus
from fedsim.models import LanguageModel, build
from fedsim.privacy.noise_keys import NoiseKey
from fedsim.profile import Profile
from fedsim.progress import Reporter
from fedsim.references import load as load_reference
from fedsim.runs import Run
from fedsim.showing import shown
from fedsim.suggesting import openings
from fedsim.tables import SCORES, USERS
from fedsim.tracking import Tracking
from server.state import ServerState, sealed
from server.strategy import RoundOutcome

if TYPE_CHECKING:
    from fedsim.leakage.forgetting import Yardstick  # SciPy: 50 MB that few runs need


class Recorder:
    """Writes one run's folder as the rounds go by."""

    def __init__(
        self,
        run: Run,
        config: Config,
        federation: Federation,
        state: ServerState,
        reporter: Reporter,
        profile: Profile,
        key: NoiseKey,
        first: FirstCorpus | None = None,
        tracking: Tracking | None = None,
    ) -> None:
        self.run = run
        self.config = config
        self.federation = federation
        self.reporter = reporter
        self.profile = profile
        self._key = key
        # The newest state with the lengths of the tables at that moment: rows that come later
        # (its evaluation, half of the next round) are cut off on resume, and made again.
        self.latest = (state, run.table_lengths())
        self.norms = Norms(run.rounds.mean_client_norm.tolist())
        self.checkpointed = -1  # the round of the newest checkpoint
        self.yardstick = _yardstick(config, federation, first)
        self.tracking = tracking

    def begun(self, state: ServerState) -> None:
        """Rows for the model before round 1: what pretraining left in it."""
        if state.round == 0:
            self._measure_first_corpus(state, released_model(self.config, self.federation, state))

    def notice(self, text: str) -> None:
        """On the screen and in the log."""
        self.run.log(text)
        self.reporter.say(text)

    def clients_failed(self, round: int, cohort: np.ndarray, failures: dict[int, str]) -> None:
        """A row for each failed user, and its traceback in the log."""
        rows = [
            {"round": round, "user": user, "reason": shown(last_line(failures[user]))}
            for user in sorted(failures)
        ]
        self.run.append("failures", rows)
        for user in sorted(failures):
            self.run.log(f"round {round}: user {user} failed\n{failures[user]}")
        self.reporter.say(
            f"round {round}: {len(rows)} of {len(cohort)} clients failed "
            f"({rows[0]['reason']}); see run.log"
        )

    def round_done(self, state: ServerState, outcome: RoundOutcome) -> None:
        """Rows for the round and its clients, and every so often a checkpoint."""
        tokens = sum(r.tokens for r in outcome.results)
        loss = sum(r.loss_nats for r in outcome.results) / max(tokens, 1)
        completed = len(outcome.results)
        norms = [r.update_norm for r in outcome.results]
        self._keep(
            "rounds",
            outcome.round,
            [
                {
                    "round": outcome.round,
                    "users_sampled": len(outcome.cohort),
                    "users_completed": completed,
                    "users_failed": len(outcome.failures),
                    "sequences": sum(r.sequences for r in outcome.results),
                    "tokens": tokens,
                    "train_loss_nats_per_token": loss if tokens else float("nan"),
                    "update_norm": outcome.update_norm,
                    "mean_client_norm": float(np.mean(norms)) if norms else float("nan"),
                    "largest_client_norm": max(norms, default=float("nan")),
                    "download_bytes": len(outcome.cohort)
                    * outcome.models_sent
                    * state.parameters.nbytes,
                    "upload_bytes": completed * state.parameters.nbytes,
                    "seconds": outcome.seconds,
                    "tokens_per_second": tokens / outcome.seconds,
                }
            ],
        )
        self.run.append("clients", self._client_rows(outcome))
        if outcome.privacy:
            row = {"round": outcome.round, **outcome.privacy}
            self._keep("privacy", outcome.round, [row])
        if len(outcome.projections):
            self.run.append("audit", self._audit_rows(outcome))
        self.latest = (state, self.run.table_lengths())
        if state.round % self.config.server.checkpoint_every == 0:
            self.checkpoint()
        self.reporter.round(
            outcome.round, completed, tokens / outcome.seconds, loss if tokens else float("nan")
        )
        said = self.norms.warning(outcome.round, norms, [r.user for r in outcome.results])
        if said and self.config.privacy.name in ("none", "dp-sgd"):  # else it was clipped
            self.notice(said)

    def evaluated(self, state: ServerState, split: str, users: pd.DataFrame) -> None:
        """Rows for the scores and for the canaries' exposure."""
        row = scores_row(users)
        self._keep("evaluations", state.round, [{"round": state.round, "split": split, **row}])
        self.reporter.scores(state.round, row["top1_recall"], row["top3_recall"])
        self.run.log(
            f"round {state.round}: {split} top-1 {row['top1_recall']:.4f} "
            f"top-3 {row['top3_recall']:.4f} perplexity {row['perplexity']:.1f}"
        )
        if split == "validation":
            with self.profile.part("leakage"):
                model = released_model(self.config, self.federation, state)
                self._measure_exposure(state, model)
                self._measure_first_corpus(state, model)
                self._audit(state, model)

    def checkpoint(self) -> None:
        """Save the newest state, unless it is saved already. A Ctrl-C waits until it is."""
        with held_back():
            state, lengths = self.latest
            if state.round != self.checkpointed:
                keep = self.config.server.keep_checkpoints
                arrays = sealed(state.arrays(), self._key, state.round)
                self.run.save_checkpoint(state.round, arrays, lengths, keep)
                self.run.set_status("running", state.round)
                self.checkpointed = state.round

    def _keep(self, table: str, round: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of a round into the table, and to whom the config says."""
        rows = list(rows)
        self.run.append(table, rows)
        self._tell(table, round, rows)

    def _tell(self, table: str, round: int, rows: Iterable[Mapping[str, Any]]) -> None:
        if self.tracking is not None:
            self.tracking.add(table, rows, round)

    def _client_rows(self, outcome: RoundOutcome) -> Iterable[Mapping[str, Any]]:
        for result in outcome.results:
            yield {
                "round": outcome.round,
                "user": result.user,
                "canary_user": self.federation.is_canary_user(result.user),
                "sequences": result.sequences,
                "tokens": result.tokens,
                "loss_nats_per_token": result.loss_nats / max(result.tokens, 1),
                "update_norm": result.update_norm,
            }

    def _audit_rows(self, outcome: RoundOutcome) -> Iterable[Mapping[str, Any]]:
        drawn = np.isin(self.federation.audit_users, outcome.cohort)
        for canary, projection in enumerate(outcome.projections):
            yield {
                "round": outcome.round,
                "canary": canary,
                "drawn": bool(drawn[canary]),
                "projection": float(projection),
            }

    def _measure_exposure(self, state: ServerState, model: LanguageModel) -> None:
        if not self.federation.planted.canaries:
            return
        table = measure_exposure(
            model,
            self.federation.planted,
            self.config.canaries.prefix_words,
            self.federation.holder_participations(state.participations),
            model.device,
        )
        table.insert(0, "round", state.round)
        self._keep("exposure", state.round, table.to_dict("records"))
        planted_rows = table[table.holder_participations > 0]
        if len(planted_rows):
            self.reporter.exposure(float(planted_rows.exposure_bits.max()))

    def _measure_first_corpus(self, state: ServerState, model: LanguageModel) -> None:
        if self.yardstick is not None:
            self._keep("first_corpus", state.round, self.yardstick.rows(model, state.round))

    def _audit(self, state: ServerState, model: LanguageModel) -> None:
        """The measures that the config asks for, where this round is one of theirs.

        One that cannot be taken of this run is said and left out: the model is worth keeping.
        """
        names, every = self.config.audit.measures, self.config.audit.every
        last = state.round == self.config.server.rounds
        if not names or not (last or (every and state.round % every == 0)):
            return
        from fedsim.leakage.audit import keep, take
        from fedsim.leakage.base import Subject
        from fedsim.leakage.measures import MEASURES

        federation, seed = self.federation, self.config.seed
        bench = load_reference("fedsim.studies.workbench:Bench")()
        subject = Subject(model, self.config, federation, state.participations, seed, bench)
        for name in names:
            try:
                audited = take(name, MEASURES[name](), subject, state.round)
            except FedsimError as error:
                self.notice(f"audit, {name}: {error}")
                continue
            keep(self.run, audited)
            self._tell("leakage", state.round, audited.table.to_dict("records"))
            self.reporter.say(f"audit, {name}: {audited.seconds:.1f} s")
            if audited.broken:
                raise FedsimError(audited.broken)


def released_model(config: Config, federation: Federation, state: ServerState) -> LanguageModel:
    """The model of a state, in eval mode; built when it is needed, for training needs none here."""
    device = resolve_device(config.engine.device)
    model = build(config.model.options, len(federation.corpus.vocabulary), device)
    state.released.load_into(model)
    return model.eval()


def _yardstick(
    config: Config, federation: Federation, first: FirstCorpus | None
) -> Yardstick | None:
    if first is None:
        return None
    from fedsim.leakage.forgetting import Yardstick

    prefix = config.canaries.prefix_words
    references = federation.planted.references
    return Yardstick(first, config.pretrain.sentences, references, prefix, config.seed)


def scores_row(users: pd.DataFrame) -> dict[str, Any]:
    """The columns of `fedsim.tables.SCORES` from per-user counts."""
    summary = summarise(users)
    return {name: summary[name] for name in SCORES}


def suggestion_rows(
    model: LanguageModel, words: Sequence[str], how: Tokenization
) -> list[dict[str, Any]]:
    """Rows of the `suggestions` table; how: how the text was cut."""
    with threads(1):  # the last bits must not depend on the machine's cores
        return [
            {"typed": typed, "place": place, "word": word, "probability": share}
            for typed, found in openings(model, words, how)
            for place, (word, share) in enumerate(found.offers, 1)
        ]


def user_rows(model: str, users: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the `users` table."""
    columns = [c for c in USERS if c != "model"]
    return [{"model": model, **row} for row in users[columns].to_dict("records")]
