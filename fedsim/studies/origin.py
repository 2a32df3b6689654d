"""What a study's figures come from: versions, the command, the data, how it was cut, the cost."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fedsim.config import Config
from fedsim.data.splitting import PARTS
from fedsim.data.store import Corpus, open_corpus
from fedsim.device import available_cores
from fedsim.program import command_for_pages
from fedsim.provenance import provenance
from fedsim.runs import Run

VERSIONS = ("fedsim", "git", "python", "packages")  # which a later call may have others of

SECONDS = (
    "Seconds are wall time of one process a run, whenever it ran; what failed, and attacks on "
    "finished models, are not counted."
)


def origin(config: Config, runs: Sequence[Run]) -> dict[str, Any]:
    """`provenance` with the command, `corpus` and `data` as JSON-able records.

    The digest is that of the runs; where an axis varies the data, those of the others are
    `corpus.more`. Without runs it is that of the corpus that `config` names.
    """
    corpus = open_corpus(runs[0].config.data if runs else config.data)
    digests = list(dict.fromkeys(run.corpus_digest for run in runs)) or [corpus.digest]
    kernel = str(runs[0].provenance.get("kernel", "")) if runs else ""
    out = provenance(corpus.name, digests[0], kernel)
    out["command"] = command_for_pages(*sys.argv[1:])
    out["corpus"] |= {key: getattr(corpus, key) for key in ("title", "licence", "citation",
                                                            "homepage")}  # fmt: skip
    out["corpus"] |= {"more": digests[1:]} if digests[1:] else {}
    return out | {"data": _cut(corpus, config)}


def cost_of(runs: Sequence[Run], trials: Sequence[Run], made: Mapping[str, Any]) -> dict[str, Any]:
    """What runs and the trials before them took, whenever that was; what failed is not counted.

    Seconds are wall time of their processes, one for each run. without_a_cost: runs whose folder
    does not say. of_other_versions: runs whose provenance differs from `made`, that of the process
    which writes this.
    """
    both = (*runs, *trials)
    tuned = sum(run.profile["wall_seconds"] for run in trials)
    trained = sum(run.profile["wall_seconds"] for run in runs)
    others = [run for run in both if any(run.provenance.get(k) != made[k] for k in VERSIONS)]
    return {
        "runs": len(runs),
        "trials": len(trials),
        "of_other_versions": len(others),
        "compute_seconds": round(tuned + trained, 3),
        "tuning_seconds": round(tuned, 3),
        "without_a_cost": sum(not run.profile["wall_seconds"] for run in both),
    }


def reservations(made: Mapping[str, Any]) -> list[str]:
    """What `made` cannot say of every run, in sentences; see `cost_of`."""
    out = []
    total = made.get("runs", 0) + made.get("trials", 0)
    if made.get("of_other_versions"):
        out.append(
            f"{made['of_other_versions']} of {total} runs, trials included, were trained under "
            "other versions than those told; their provenance.json has theirs."
        )
    if made.get("without_a_cost"):
        out.append(f"{made['without_a_cost']} of {total} runs do not say what they took.")
    return out


def origin_of_all(runs: Sequence[Run], trials: Sequence[Run], jobs: int) -> dict[str, Any]:
    """`origin` of runs on several data sets, which `corpora` has by name, with what they cost.

    trials: the runs of a search before, which count too; see `cost_of`.
    """
    by_corpus: dict[str, list[Run]] = {}
    for run in (*runs, *trials):
        by_corpus.setdefault(run.provenance["corpus"]["name"], []).append(run)
    parts = {name: origin(own[0].config, own) for name, own in by_corpus.items()}
    corpora = {name: part.pop("corpus") | part.pop("data") for name, part in parts.items()}
    made = next(iter(parts.values()))
    return made | {
        "corpora": corpora,
        "cores": available_cores(),
        "jobs": jobs or available_cores(),
        **cost_of(runs, trials, made),
    }


def _cut(corpus: Corpus, config: Config) -> dict[str, Any]:
    """Who is in which split, and the options of the preprocessing that are set."""
    said = config.data.model_dump(mode="json", exclude={"name", "path"}, exclude_none=True)
    return {
        "splits": {name: corpus.split_counts(name) for name in PARTS},
        "vocabulary": len(corpus.vocabulary),
        "options": said,
    }
