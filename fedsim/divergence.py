"""Whether a run went wrong in its figures: a model worse than guessing, updates that jump."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedsim.run_reading import RunReader

MARGIN_NATS = 1.0  # by which a loss is above that of guessing before a model is called diverged
JUMP = 8.0  # times what is usual; honest users of one federation differ by less
WINDOW = 10  # rounds that say what is usual
LEAST = 3  # clients of which a median says anything


def diverged(run: RunReader) -> str:
    """What is said of a run whose model is worse than guessing: since when, and why; else ""."""
    if not (run.path / "vocabulary.txt").is_file():
        return ""  # it has no model yet
    words, results, rounds = len(run.vocabulary()), run.results, run.rounds
    limit = math.log(words) + MARGIN_NATS
    federated = results[results.model == run.config.strategy.name]
    if not len(federated) or math.log(federated.perplexity.iloc[0]) <= limit:
        return ""
    said = (
        f"The run has diverged: the model is worse than guessing (perplexity "
        f"{federated.perplexity.iloc[0]:,.1f}; guessing among all {words:,} words has {words:,})."
    )
    worse = rounds["round"][~(rounds.train_loss_nats_per_token <= limit) & (rounds.tokens > 0)]
    if len(worse):
        said += f" The clients' loss is above that of guessing since round {worse.iloc[0]}."
    jumps = [jump_of(rounds, at) for at in range(len(rounds))]
    if max(jumps, default=0.0) > JUMP:
        at = int(np.argmax(jumps))
        said += (
            f" In round {rounds['round'].iloc[at]} a client's update was {jumps[at]:.0f} times as "
            "large as is usual; clients.csv says whose."
        )
    lr = run.config.client.lr
    return f"{said} Lower client.lr ({lr:g}) or optimizer.lr, or bound what one client may send."


def jump_of(rounds: object, at: int) -> float:
    """How many times the usual norm the largest update of the round in row `at` was."""
    table: dict[str, Sequence[float]] = {
        name: rounds[name].tolist()  # type: ignore[index]
        for name in ("mean_client_norm", "largest_client_norm")
    }
    before = table["mean_client_norm"][max(0, at - WINDOW) : at]
    return ratio(table["largest_client_norm"][at], before)


def ratio(largest: float, usual: Sequence[float]) -> float:
    """`largest` over the median of what is usual; 0 where there is not enough to compare with."""
    known = [norm for norm in usual if math.isfinite(norm) and norm > 0]
    if len(known) < LEAST or not largest > 0:
        return 0.0
    return largest / float(np.median(known))


class Norms:
    """Watches the norms of a run's updates, round by round."""

    def __init__(self, means: Sequence[float] = ()) -> None:
        """`means`: those of the rounds before, where a run is resumed."""
        self._means = list(means)

    def warning(self, round: int, norms: Sequence[float], users: Sequence[int]) -> str:
        """What is to be said of a round whose largest update is far above what is usual, in the
        rounds before or, before there were some, in its own cohort; else ""."""
        usual = self._means[-WINDOW:] if len(self._means) >= LEAST else list(norms)
        self._means += [float(np.mean(norms))] if norms else []
        largest = max(norms, default=0.0)
        times = ratio(largest, usual)
        if not times > JUMP:
            return ""
        who = users[int(np.argmax(norms))]
        above = sum(norm > JUMP * largest / times for norm in norms)
        others = f" and {above - 1} more" if above > 1 else ""
        return (
            f"round {round}: the update of user {who}{others} is {times:,.0f} times as large as is "
            "usual, which an average follows; look at clients.csv, or bound what one client may "
            "send (privacy=dp-fedavg, strategy=trimmed-mean)."
        )
