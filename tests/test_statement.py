"""The privacy statement: whom it leaves out, what it rests on and composes with, as counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from federations import write_chat

from fedsim.config import load
from fedsim.federation import open_federation
from fedsim.privacy.accountants import compose
from fedsim.privacy.claims import Claim, rounded_up
from fedsim.privacy.coverage import vocabulary_in_words
from fedsim.privacy.events import Event
from fedsim.privacy.statement import GROUPS, LABEL, WIDTH, as_text
from fedsim.simulation import simulate
from server.pretraining import first_corpus
from server.privacy import resolved, stated

MECHANISMS = {
    "dp-fedavg": ["server.sampler=poisson", "privacy.noise_multiplier=2"],
    "fixed": ["privacy=dp-fedavg", "server.sampler=fixed", "privacy.noise_multiplier=2"],
    "blt": ["server.sampler=cyclic", "privacy.epsilon=9"],
    "local": ["privacy.noise_multiplier=3"],
    "dp-sgd": ["privacy.noise_multiplier=1", "privacy.delta=1e-3"],
}


def said_of(tiny: str, name: str, *more: str) -> dict[str, Any]:
    """The statement of a run that is only planned."""
    keys = [*MECHANISMS[name], *more]
    config = load(tiny, keys if name == "fixed" else [f"privacy={name}", *keys])
    federation = open_federation(config)
    config = resolved(config, federation)
    said = stated(config, federation, first=first_corpus(config, federation))
    assert said is not None
    return said


def rows_of(text: str) -> dict[str, str]:
    """Label -> text of a statement; lines that go on are joined."""
    rows: dict[str, str] = {}
    label = ""
    for line in text.splitlines():
        if line[:LABEL].strip():
            label = line[:LABEL].strip()
            rows[label] = ""
        rows[label] = f"{rows[label]} {line[LABEL:].strip()}".strip()
    return rows


@pytest.mark.parametrize("name", MECHANISMS)
def test_it_fits_a_page_and_json_has_the_same(name: str, tiny: str) -> None:
    said = said_of(tiny, name, 'tracking.to=["tensorboard"]')
    text = as_text(said)
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= 60
    assert json.loads(json.dumps(said)) == said
    rows = rows_of(text)
    for key in GROUPS:
        for label, sentence in said[key].items():
            assert rows[label].replace(" ", "") == sentence.replace(" ", "")


def test_everybody_whose_text_is_read_is_counted(tiny: str, tmp_path: Path) -> None:
    """Against the corpus; and in the run's own files, at its end."""
    chat = write_chat(tmp_path / "first.csv", people=14, seed=8)
    rows = chat.read_text().replace("\np", "\nx")
    chat.write_text(rows)
    keys = [
        *["privacy=dp-fedavg", *MECHANISMS["dp-fedavg"], "server.rounds=1"],
        *["audit.set_apart=3", "evaluation.trigram=true", f"pretrain.path={chat}"],
        *["pretrain.min_words=10", "pretrain.epochs=1"],
    ]
    config = load(tiny, keys)
    run = simulate(config, tmp_path / "run", quiet=True)
    said, corpus = run.privacy, open_federation(config).corpus
    assert said is not None
    first = open_federation(load(tiny, [f"data.path={chat}"])).corpus
    people = said["people"]
    assert people["training"] == len(corpus.split("train")) - 3
    assert people["training"] + people["canary_users"] == said["users"]
    for part in ("donors", "validation", "test"):
        assert people[part] == len(corpus.split(part))
    assert people["set_apart"] == 3
    assert people["first_corpus"]["people"] == len(first.split("train"))
    assert people["first_corpus"]["overlap"]["names"] == 0
    assert people["first_corpus"]["overlap"]["people"] == people["training"]
    assert said["baselines"] == ["trigram"]
    rows_said = rows_of((run.path / "privacy.txt").read_text())
    assert f"{people['canary_users']} canary users" in rows_said["donors"]
    for label, number in (("validation", people["validation"]), ("test", people["test"]),
                          ("set apart", 3), ("baselines", people["training"]),
                          ("first corpus", len(first.split("train")))):  # fmt: skip
        assert f"{number} p" in rows_said[label], label
    assert "nobody has a name that is there" in rows_said["first corpus"]


def test_nobody_is_named_who_is_not_there(tiny: str) -> None:
    keys = ["canaries.per_cell=0"]
    rows = rows_of(as_text(said_of(tiny, "dp-fedavg", *keys)))
    for label in ("donors", "set apart", "first corpus", "baselines", "trackers"):
        assert label not in rows


@pytest.mark.parametrize(
    ("name", "amplified"),
    [("dp-fedavg", True), ("fixed", True), ("blt", False), ("local", False), ("dp-sgd", False)],
)
def test_amplification_by_sampling_rests_on_names_that_stay_secret(
    name: str, amplified: bool, tiny: str
) -> None:
    said = said_of(tiny, name)
    rows = rows_of(as_text(said))
    assert ("who took part" in rows) == amplified
    assert ("names known" in rows) == (amplified or name == "dp-sgd"), "whose batches are drawn"
    if "names known" in rows:
        known = said["guarantee"]["epsilon_names_known"]
        assert known > said["guarantee"]["epsilon"]
        assert f"epsilon is {rounded_up(known)} at the same delta" in rows["names known"]
    if amplified:
        assert "clients.csv" in rows["who took part"]


@pytest.mark.parametrize("name", MECHANISMS)
def test_figures_are_rounded_up_and_alike_in_every_row(name: str, tiny: str) -> None:
    said = said_of(tiny, name, "server.rounds=7")
    rows, guarantee = rows_of(as_text(said)), said["guarantee"]
    delta = rounded_up(guarantee["delta"], 3)
    assert f"{rounded_up(guarantee['epsilon'])} at delta = {delta} (" in rows["epsilon"]
    assert rows["delta"].startswith(delta)
    if name not in ("dp-sgd",):
        assert rows["delta"].endswith(f"at most {rounded_up(29**-1.1, 3)}")
    assert f"rho = {rounded_up(guarantee['rho'])} zCDP" in rows["epsilon"]


def test_it_says_how_many_of_the_users_are_people(tiny: str) -> None:
    rows = rows_of(as_text(said_of(tiny, "dp-fedavg")))
    assert "of 29 users a round; the 29 users are 23 people and 6 canary users" in rows["sampling"]
    claim = Claim.of(said_of(tiny, "dp-fedavg"))
    assert claim is not None
    assert claim.holds_for == "the 29 users (23 people and 6 synthetic users) of this run"
    alone = Claim.of(said_of(tiny, "dp-fedavg", "canaries.per_cell=0"))
    assert alone is not None
    assert alone.holds_for == "the 23 users of this run"
    sequences = Claim.of(said_of(tiny, "dp-sgd", "canaries.per_cell=0"))
    assert sequences is not None
    assert sequences.holds_for == "the sequences of the 23 users of this run"


@pytest.mark.parametrize(
    ("keys", "by"), [((), "PLD, "), (("privacy.sample_rate=1",), "exact Gaussian, ")]
)
def test_dp_sgd_names_who_computed_its_epsilon(tiny: str, keys: tuple[str, ...], by: str) -> None:
    assert said_of(tiny, "dp-sgd", *keys)["guarantee"]["accountant"].startswith(by)


def test_local_noise_protects_a_user_in_every_place_that_names_its_unit(tiny: str) -> None:
    said = said_of(tiny, "local")
    assert said["guarantee"]["unit"] == "user"
    assert rows_of(as_text(said))["unit of privacy"] == "user"
    docs = Path(__file__).parents[1] / "docs" / "privacy.md"
    (row,) = [line for line in docs.read_text().splitlines() if line.startswith("| `local` |")]
    assert row.split("|")[3].strip() == "user"


@pytest.mark.parametrize("name", MECHANISMS)
def test_noise_that_can_be_made_again_is_called_a_simulation(name: str, tiny: str) -> None:
    seeded = rows_of(as_text(said_of(tiny, name, "privacy.noise=seeded")))["the noise"]
    fresh = rows_of(as_text(said_of(tiny, name, "privacy.noise=fresh")))["the noise"]
    assert seeded.startswith("seeded: a SIMULATION")
    assert fresh.startswith("fresh: drawn by AES-256 in counter mode; its key is ")
    floating = "Floating point" if name == "dp-sgd" else "steps of the grid"
    assert floating in seeded
    assert floating in fresh


def test_a_threshold_of_the_vocabulary_is_called_no_privacy(tiny: str) -> None:
    rows = rows_of(as_text(said_of(tiny, "dp-fedavg", "data.word_users=2")))
    assert "that 2 users or more have, a threshold and no privacy" in rows["the words"]


def test_what_trackers_are_sent_is_said(tiny: str) -> None:
    said = said_of(tiny, "dp-fedavg", 'tracking.to=["tensorboard"]')
    assert said["trackers"] == ["tensorboard"]
    assert "tensorboard" in rows_of(as_text(said))["trackers"]


def test_a_statement_of_an_earlier_version_is_still_printed(tiny: str) -> None:
    said = said_of(tiny, "dp-fedavg")
    for key in ("rests_on", "composes_with", "exact", "people", "public", "noise"):
        del said[key]
    said["not_covered"] = ["a server that is curious", "canaries and audits"]
    rows = as_text(said).splitlines()
    assert rows[-2:] == [f"{'NOT COVERED':<{LABEL}}a server that is curious",
                         f"{'':<{LABEL}}canaries and audits"]  # fmt: skip


def test_dp_sgd_protects_a_sequence_that_is_zeroed_out(tiny: str) -> None:
    """`test_private` shows that an update tells how many sequences there are."""
    rows = rows_of(as_text(said_of(tiny, "dp-sgd")))
    assert rows["adjacency"].startswith("zero out one sequence of that client")
    assert "the numbers of sequences are public" in rows["adjacency"]
    assert rows["public"].startswith("the numbers of sequences of clients, which scale their noise")


def test_figures_to_compose_with_are_not_rounded_to_nearest(tiny: str) -> None:
    said = said_of(tiny, "blt")
    said["guarantee"] |= {"noise_multiplier": 1.23456789, "sensitivity": 6**0.5}
    row = rows_of(as_text(said))["mechanism"]
    assert "noise multiplier 1.23456," in row
    assert "strategy matrix 2.44949," in row
    chosen = {"people": 9, "words": 9, "threshold": 1.0, "noise_multiplier": 1.23456789,
              "chance": 1.2341e-6, "noise": "fresh"}  # fmt: skip
    assert "1.23456, and 1.24e-06 of delta" in vocabulary_in_words(chosen)
    events = (Event("gaussian", 1.0), Event("threshold", 2.0, chance=1.2341e-6))
    assert "1.24e-06 of delta for a threshold" in compose(events, 1e-5).accountant
