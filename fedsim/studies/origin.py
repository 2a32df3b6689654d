"""What a comparison's figures come from: versions, the command, the data and how it was cut."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any

from fedsim.config import Config
from fedsim.data.splitting import PARTS
from fedsim.data.store import Corpus, open_corpus
from fedsim.provenance import provenance
from fedsim.runs import Run


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


def _cut(corpus: Corpus, config: Config) -> dict[str, Any]:
    """Who is in which split, and the options of the preprocessing that are set."""
    said = config.data.model_dump(mode="json", exclude={"name", "path"}, exclude_none=True)
    return {
        "splits": {name: corpus.split_counts(name) for name in PARTS},
        "vocabulary": len(corpus.vocabulary),
        "options": said,
    }
