"""Whether the text that cells were trained on is the text that is here now."""

from __future__ import annotations

from fedsim.config import Config
from fedsim.data.options import DataOptions
from fedsim.data.store import open_corpus, open_with_all_words
from fedsim.errors import FedsimError
from fedsim.runs import Run


class Texts:
    """The corpora of a study's cells; each is opened once."""

    def __init__(self) -> None:
        self._digests: dict[tuple[str, bool], str] = {}

    def check(self, run: Run, config: Config) -> None:
        """Raises FedsimError where the run's corpus, or its first one, was changed since: a cell
        is named by its config, which says where a text is and not what is in it."""
        if run.corpus_digest != self._digest(config.data, all_words=False):
            raise FedsimError(
                f"The text of '{config.data.name}' was changed after {run.path} began; restore it, "
                "or choose another --out."
            )
        first = run.provenance.get("first_corpus")  # without it nothing was trained on one
        if first and first["digest"] != self._digest(config.pretrain.data, all_words=True):
            raise FedsimError(
                f"The text of the first corpus was changed after {run.path} began; restore it, or "
                "choose another --out."
            )

    def _digest(self, options: DataOptions, all_words: bool) -> str:
        key = options.model_dump_json(), all_words
        if key not in self._digests:
            opened = open_with_all_words(options) if all_words else open_corpus(options)
            self._digests[key] = opened.digest
        return self._digests[key]
