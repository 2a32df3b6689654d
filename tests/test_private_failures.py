"""A run with a guarantee does not end, or go on, because of one person's text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from federations import AdverseGrid, play
from flwr.app import Message

from fedsim.config import from_dict, load
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.parameters import Layout
from fedsim.privacy.secure_sum import SecureSum
from fedsim.simulation import simulate
from fedsim.updates import Aggregate, ChunkUpdate, UserResult
from server.privacy import resolved

APP = "clients.app:app"
PRIVATE = {
    "dp-fedavg": ["privacy.noise_multiplier=1", "server.sampler=poisson"],
    "blt": ["privacy.epsilon=9", "server.sampler=cyclic"],
    "local": ["privacy.noise_multiplier=3"],
    "dp-sgd": ["privacy.noise_multiplier=1", "privacy.delta=1e-3"],
}
STOPS = {
    "server.on_failure=abort": "set server.on_failure=drop",
    "server.min_completed=2": "leave it out",
}


def trained(reply: Message) -> bool:
    """Whether it replies to a training message."""
    return reply.metadata.message_type.startswith("train")


def nobody(replies: list[Message]) -> list[Message]:
    """No client's training comes back."""
    return [reply for reply in replies if not trained(reply)]


@pytest.mark.parametrize("name", PRIVATE)
@pytest.mark.parametrize("key", STOPS)
def test_a_run_that_one_failure_ends_is_refused(name: str, key: str, tiny: str) -> None:
    keys = [f"privacy={name}", *PRIVATE[name], key]
    with pytest.raises(FedsimError, match=r"tells of that person; ") as caught:
        load(tiny, keys)
    assert STOPS[key] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_refused_however_the_config_came_about(tiny: str, tmp_path: Path) -> None:
    """From plain values; and what an older run did can still be read from its folder."""
    tree = load(tiny, ["privacy=local", "privacy.noise_multiplier=3"]).as_dict()
    tree["server"]["on_failure"] = "abort"
    config = from_dict(tree)
    with pytest.raises(FedsimError, match="tells of that person"):
        simulate(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_without_a_guarantee_both_policies_are_there(tiny: str) -> None:
    for name in ("none", "secagg"):
        config = load(tiny, [f"privacy={name}", *STOPS])
        assert config.server.on_failure == "abort"


@pytest.mark.parametrize("name", PRIVATE)
def test_a_round_that_everybody_fails_does_not_end_the_run(name: str, tiny: str) -> None:
    config = load(tiny, [f"privacy={name}", *PRIVATE[name], "server.retries=0"])
    config = resolved(config, open_federation(config))
    strategy, notes = play(config, AdverseGrid(APP, nobody), rounds=2, timeout=0.1)
    assert strategy.state.round == 2
    assert [len(outcome.results) for outcome in notes.outcomes] == [0, 0]
    moved = [outcome.update_norm > 0 for outcome in notes.outcomes]
    assert moved == [name in ("dp-fedavg", "blt")] * 2, "a step of noise, or none"


def test_krum_goes_on_where_too_few_complete_under_dp_sgd(tiny: str) -> None:
    keys = ["privacy=dp-sgd", *PRIVATE["dp-sgd"], "strategy=krum", "strategy.malicious=2"]
    config = load(tiny, [*keys, "server.retries=0"])

    def lost(replies: list[Message]) -> list[Message]:
        return [*nobody(replies), *[reply for reply in replies if trained(reply)][1:]]

    strategy, notes = play(config, AdverseGrid(APP, lost), timeout=0.1)
    assert len(notes.outcomes[0].results) == 6
    assert notes.outcomes[0].update_norm == 0
    assert strategy.state.round == 1
    assert any("Only 6 users completed round 1" in said for said in notes.notices)


@pytest.mark.parametrize("coordinate", [0, 2**7 - 1])
def test_the_number_of_users_decides_whether_a_secure_sum_is_let_out(coordinate: int) -> None:
    """Not what they sent, which would tell of it."""
    secure = SecureSum(clip_norm=1.0, bits=8, modulus_bits=10)
    sums = Aggregate(Layout(("w",), ((3,),)), secure.contribution(3))
    for user in range(5):
        if user == 4:
            secure.check(sums)
        row = UserResult(user, 1, 1, 1.0, 0.5)
        sums.add(ChunkUpdate(np.full(3, coordinate, np.int64), [row]))
    with pytest.raises(FedsimError, match="5 users may have wrapped around"):
        secure.check(sums)
