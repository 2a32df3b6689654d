"""Central training on a first corpus before the federated rounds, kept between runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch

from fedsim.checkpoints import load_arrays, save_arrays
from fedsim.combinations import guarantees
from fedsim.config import Config
from fedsim.data.sources import cache_folder
from fedsim.errors import FedsimError
from fedsim.federation import Federation
from fedsim.leakage.first_corpus import FirstCorpus, open_first_corpus
from fedsim.leakage.overlap import Overlap, overlap
from fedsim.models.pooled import Plan
from fedsim.parameters import Layout, Parameters
from fedsim.progress import Reporter
from server.central import train_centrally

FORMAT = 2  # raise when a change of the code changes what a pretrained model is


def first_corpus(config: Config, federation: Federation) -> FirstCorpus | None:
    """The first corpus of a run that has one, in the vocabulary of the run's own, compared with
    the people that the run trains on. FedsimError where it is about the same people and something
    is guaranteed to them."""
    if not config.pretrain.name:
        return None
    first = open_first_corpus(
        config.pretrain, config.data, federation.corpus.vocabulary, config.seed
    )
    own, other = config.data, config.pretrain.like(config.data)
    same = (own.name, own.path) == (other.name, other.path)
    if same or first.digest == federation.corpus.digest:
        raise FedsimError(
            f"The first corpus '{first.name}' is the run's own text: its people would be trained "
            "on twice, and once without any protection; pretrain on another one."
        )
    real = federation.population[federation.population < federation.corpus.users]
    found = overlap(first.text, first.people, federation.corpus, real)
    if config.pretrain.epochs and guarantees(config):
        _refuse_the_same_people(config, first, found)
    return replace(first, overlap=found)


def _refuse_the_same_people(config: Config, first: FirstCorpus, found: Overlap) -> None:
    """Raises FedsimError where people whom a mechanism is to protect are in the first corpus."""
    why = (
        f"the server trains on it without noise, and privacy = '{config.privacy.name}' would "
        "guarantee them nothing"
    )
    if found.overlapping:
        raise FedsimError(
            f"The first corpus '{first.name}' has text of {found.overlapping:,} of the "
            f"{found.people:,} people that the run trains on ({found.closest} of "
            f"{found.of_closest} sentences of user '{found.person}'): {why}; take them out of one "
            "of the two."
        )
    if found.names and not config.pretrain.other_people:
        raise FedsimError(
            f"{found.names:,} of the people that the run trains on have the name of somebody in "
            f"the first corpus '{first.name}' (user '{found.name}'): {why}; take them out of one "
            "of the two, or set pretrain.other_people=true where only the names are the same."
        )


def same_people(first: FirstCorpus) -> str:
    """A sentence where people of the run seem to be in its first corpus too; else empty."""
    found = first.overlap
    if found is None or not (found.overlapping or found.names):
        return ""
    return (
        f"Of the {found.people:,} people that the run trains on, {found.overlapping:,} have text "
        f"in the first corpus '{first.name}' and {found.names:,} a name that is there: what is "
        "measured of it is not about other people."
    )


def pretrained(
    config: Config, federation: Federation, first: FirstCorpus, layout: Layout, reporter: Reporter
) -> Parameters | None:
    """The parameters that the federated rounds begin with; None where nothing is trained.

    They depend on the first corpus, the vocabulary, the model, the seed and the options of the
    training only, so runs that differ in the rest share them: they are cached under the
    fingerprint of what they depend on.
    """
    options = config.pretrain
    reporter.say(
        f"First corpus '{first.name}': {len(first.text.tokens):,} words, {first.unknown:.1%} of "
        "them not in the vocabulary"
    )
    if said := same_people(first):
        reporter.say(said)
    if not options.epochs:
        return None
    file = cache_folder() / "pretrained" / f"{_fingerprint(config, federation, first)}.safetensors"
    with contextlib.suppress(FedsimError):  # absent or damaged: make it
        return _load(file, layout)

    def on_epoch(epoch: int, nats: float) -> None:
        reporter.say(f"Pretraining: epoch {epoch}/{options.epochs}  loss {nats:.3f}")

    plan = Plan(options.epochs, options.lr, options.batch_size)
    words = len(federation.corpus.vocabulary)
    model = train_centrally(config, first.training_text, words, plan, "pretrain", on_epoch)
    out = Parameters.from_model(model)
    with contextlib.suppress(OSError, FedsimError):  # a cache that cannot be written is none
        file.parent.mkdir(parents=True, exist_ok=True)
        save_arrays(file, dict(out.items()), {})
    return out


def _load(file: Path, layout: Layout) -> Parameters:
    arrays, _ = load_arrays(file)
    if set(arrays) != set(layout.names):
        raise FedsimError(f"{file} is of another model.")
    return Parameters.from_arrays({name: arrays[name] for name in layout.names})


def _fingerprint(config: Config, federation: Federation, first: FirstCorpus) -> str:
    tree = config.as_dict()
    how = {"epochs", "lr", "batch_size", "canaries", "repeats"}
    depends_on = {
        "format": FORMAT,
        "torch": torch.__version__,
        "first": first.digest,
        "words": federation.corpus.vocabulary.words,
        "how": {k: v for k, v in tree["pretrain"].items() if k in how},
        "model": tree["model"],
        "seed": config.seed,
        "device": config.engine.device,
        "kernel": config.engine.kernel,
    }
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:24]
