"""What choosing a strategy changes in the config, and what it refuses."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from federations import play

from fedsim.config import Config, from_dict, load
from fedsim.errors import FedsimError
from fedsim.privacy.mechanisms import MECHANISMS
from fedsim.references import load as load_reference
from fedsim.sections import NAMED_SECTIONS
from server.optimizers import OPTIMIZERS
from server.strategies import STRATEGIES

NAMED_OPTIMIZERS = {
    "fedavgm": "momentum",
    "fedadam": "adam",
    "fedyogi": "yogi",
    "fedadagrad": "adagrad",
}
OF_SINGLE_UPDATES = ["scaffold", "fednova", "qfedavg"]
ROBUST = ["trimmed-mean", "median", "krum", "multi-krum", "geometric-median"]


def refused(keys: list[str], preset: str = "default") -> str:
    """The sentence that says why."""
    with pytest.raises(FedsimError) as caught:
        load(preset, keys)
    return str(caught.value)


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "optimizer"), list(NAMED_OPTIMIZERS.items()))
def test_a_named_optimizer_replaces_the_presets(strategy: str, optimizer: str, tiny: str) -> None:
    assert load().optimizer.options.lr == 0.7, "the preset has options of its own"
    for preset in ("default", tiny):
        config = load(preset, [f"strategy={strategy}"])
        assert config.optimizer == load(preset, [f"optimizer={optimizer}"]).optimizer
    named = load(tiny, [f"strategy={strategy}"])
    spelt = load(tiny, ["strategy=fedavg", f"optimizer={optimizer}"])
    assert play(named)[0].state.parameters.digest() == play(spelt)[0].state.parameters.digest()


def test_options_of_the_implied_optimizer_may_be_given_in_any_order() -> None:
    keys = ["strategy=fedadam", "optimizer.lr=0.5", "optimizer.tau=0.1"]
    configs = [load("default", order) for order in itertools.permutations(keys)]
    assert all(config == configs[0] for config in configs)
    options = configs[0].optimizer.options
    assert (configs[0].optimizer.name, options.lr, options.tau) == ("adam", 0.5, 0.1)
    assert load("default", [*keys, "optimizer=adam"]) == configs[0]


def test_another_optimizer_than_the_name_says_is_refused_with_the_fix() -> None:
    said = refused(["strategy=fedadam", "optimizer=yogi"])
    assert "set optimizer=adam, or strategy=fedavg optimizer=yogi" in said
    said = refused(["strategy=fedprox", "client.proximal_mu=0"])
    assert "with client.proximal_mu = 0 is FedAvg" in said
    assert "set client.proximal_mu=0" in refused(["strategy=scaffold", "client.proximal_mu=0.1"])


def test_the_papers_server_step_is_the_default_and_another_one_is_possible() -> None:
    for name in OF_SINGLE_UPDATES:
        config = load("default", [f"strategy={name}"])
        assert (config.optimizer.name, config.optimizer.options.lr) == ("sgd", 1.0)
        other = load("default", [f"strategy={name}", "optimizer=momentum", "optimizer.lr=0.3"])
        assert (other.optimizer.name, other.optimizer.options.lr) == ("momentum", 0.3)
    for name in ("fedavg", "fedprox", *ROBUST):
        assert load("default", [f"strategy={name}"]).optimizer == load().optimizer


def test_a_preset_may_name_the_strategy(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("presets") / "mine.toml"
    file.write_text('strategy = "fedadam"\n[optimizer]\nlr = 0.5\n')
    config = load(str(file))
    assert (config.optimizer.name, config.optimizer.options.lr) == ("adam", 0.5)
    assert load(str(file), ["strategy=fedavgm"]).optimizer.options.lr == 1.0
    file.write_text('strategy = "fedprox"\n[client]\nlr = 0.5\n')
    assert load(str(file)).client.proximal_mu == 0.01
    assert load(str(file), ["client.proximal_mu=0.3"]).client.proximal_mu == 0.3
    file.write_text('strategy = "fedadam"\noptimizer = "yogi"\n')
    assert "set optimizer=adam" in refused([], str(file))


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_resolved_config_is_its_own_resolution(name: str) -> None:
    """A run folder's config says everything: nothing is implied when it is read again."""
    config = load("default", [f"strategy={name}"])
    again: Config = from_dict(config.as_dict())
    assert again == config
    assert again.identity() == config.identity()


# -- together -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_mechanisms_go_with_a_strategy_or_are_refused_with_the_fix(name: str) -> None:
    if name in OF_SINGLE_UPDATES:
        allowed = {"none"}
    elif name in ROBUST:
        allowed = {"none", "dp-sgd"}
    elif name in ("fedsgd", "fedprox"):
        allowed = set(MECHANISMS) - {"dp-sgd"}
    else:
        allowed = set(MECHANISMS)
    for mechanism in MECHANISMS:
        keys = [f"strategy={name}", f"privacy={mechanism}", "canaries.per_cell=0"]
        if mechanism in allowed:
            assert load("default", keys).privacy.name == mechanism
        else:
            said = refused(keys)
            assert f"privacy = '{mechanism}' cannot go with strategy '{name}'" in said
            assert "set strategy=fedavg" in said


def test_a_strategy_that_goes_with_no_mechanism_still_goes_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for mechanisms, fit in (((), "none"), (("none",), "none"), (("dp-sgd",), "none or dp-sgd")):
        monkeypatch.setattr(STRATEGIES["fednova"], "mechanisms", mechanisms)
        assert load("default", ["strategy=fednova"]).privacy.name == "none"
        said = refused(["strategy=fednova", "privacy=dp-fedavg", "canaries.per_cell=0"])
        assert said.endswith(f"set strategy=fedavg or privacy={fit}.")


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_what_looks_at_single_updates_has_no_chunks_and_no_update_canaries(name: str) -> None:
    keys = [f"strategy={name}"]
    if STRATEGIES[name].one_reply_per_user:
        said = refused([*keys, "engine.chunk=3"])
        assert f"engine.chunk has no effect with strategy '{name}'" in said
        assert "makes no such sum" in refused([*keys, "audit.update_canaries=4"])
    else:
        assert load("default", [*keys, "engine.chunk=3"]).engine.chunk == 3
        assert load("default", [*keys, "audit.update_canaries=4"]).audit.update_canaries == 4


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_what_is_tuned_is_there_and_has_an_effect(name: str) -> None:
    strategy = STRATEGIES[name]
    assert not set(strategy.search) & set(strategy.without_effect)
    for at in (0.0, 1.0):
        keys = [f"{key}={of.at(at)}" for key, of in strategy.search.items()]
        load("default", [f"strategy={name}", *keys])
    optimizer = strategy.implies.get("optimizer")
    assert optimizer is None or optimizer in OPTIMIZERS


def test_every_registered_file_of_the_room_is_documented() -> None:
    table = (Path(__file__).parents[1] / "docs" / "strategies.md").read_text("utf-8")
    for name in load_reference(NAMED_SECTIONS["strategy"]):
        assert f"| `{name}` |" in table
        for option in STRATEGIES[name].Options.model_fields:
            assert f"`strategy.{option}`" in table
