"""What a study's figures come from: versions, the command, the data, how it was cut, the cost."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any

from fedsim.config import Config
from fedsim.data.splitting import PARTS
from fedsim.data.store import Corpus, open_corpus
from fedsim.device import available_cores
from fedsim.provenance import provenance
from fedsim.runs import Run

VERSIONS = ("fedsim", "git", "python", "packages")  # which a later call may have others of


def origin(config: Config, runs: Sequence[Run]) -> dict[str, Any]:
    """`provenance` with the command, `corpus` and `data` as JSON-able records.

    The digest is that of the runs; where an axis varies the data, those of the others are
    `corpus.more`. Without runs it is that of the corpus that `config` names.
    """
    corpus = open_corpus(runs[0].config.data if runs else config.data)
    digests = list(dict.fromkeys(run.corpus_digest for run in runs)) or [corpus.digest]
    kernel = str(runs[0].provenance.get("kernel", "")) if runs else ""
    out = provenance(corpus.name, digests[0], kernel)
    out["command"] = shlex.join(["python", "run_sim.py", *sys.argv[1:]])
    out["corpus"] |= {key: getattr(corpus, key) for key in ("title", "licence", "citation",
                                                            "homepage")}  # fmt: skip
    out["corpus"] |= {"more": digests[1:]} if digests[1:] else {}
    return out | {"data": _cut(corpus, config)}


def origin_of_all(runs: Sequence[Run], trials: Sequence[Run], jobs: int) -> dict[str, Any]:
    """`origin` of runs on several data sets, which `corpora` has by name, with what they cost.

    trials: the runs of a search before, which count too. Seconds are those of processes with one
    core each, whenever they ran; a trial that failed is not counted. Versions are those of this
    process: `of_other_versions` counts what was trained earlier under others.
    """
    by_corpus: dict[str, list[Run]] = {}
    for run in (*runs, *trials):
        by_corpus.setdefault(run.provenance["corpus"]["name"], []).append(run)
    parts = {name: origin(own[0].config, own) for name, own in by_corpus.items()}
    corpora = {name: part.pop("corpus") | part.pop("data") for name, part in parts.items()}
    made = next(iter(parts.values()))
    others = [r for r in (*runs, *trials) if any(r.provenance.get(k) != made[k] for k in VERSIONS)]
    tuned = sum(run.profile["wall_seconds"] for run in trials)
    return made | {
        "corpora": corpora,
        "cores": available_cores(),
        "jobs": jobs or available_cores(),
        "runs": len(runs),
        "trials": len(trials),
        "of_other_versions": len(others),
        "compute_seconds": round(tuned + sum(run.profile["wall_seconds"] for run in runs), 1),
        "tuning_seconds": round(tuned, 1),
    }


def _cut(corpus: Corpus, config: Config) -> dict[str, Any]:
    """Who is in which split, and the options of the preprocessing that are set."""
    said = config.data.model_dump(mode="json", exclude={"name", "path"}, exclude_none=True)
    return {
        "splits": {name: corpus.split_counts(name) for name in PARTS},
        "vocabulary": len(corpus.vocabulary),
        "options": said,
    }
