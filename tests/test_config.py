"""The config tree: typos, types, presets, the order of keys, identity."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.config import Config, client_config, from_dict, load
from fedsim.config_tree import presets
from fedsim.errors import FedsimError
from fedsim.models import MODELS
from fedsim.options import Options, validated
from fedsim.registry import Registry, nearest
from fedsim.sections import NAMED_SECTIONS, PLAIN_SECTIONS, ClientOptions
from server.optimizers import OPTIMIZERS
from server.strategies import STRATEGIES

SECTIONS = [*NAMED_SECTIONS, *PLAIN_SECTIONS]


def test_every_preset_resolves_and_says_what_it_is_for() -> None:
    assert "default" in presets()
    for name, purpose in presets().items():
        assert len(purpose) > 10
        config = load(name)
        assert from_dict(json.loads(config.as_json())) == config


@pytest.mark.parametrize(("registry", "section"), [
    (MODELS, "model"), (STRATEGIES, "strategy"), (OPTIMIZERS, "optimizer"),
])  # fmt: skip
def test_everything_that_is_registered_can_be_named(registry: Registry[Any], section: str) -> None:
    for name in registry:
        config = load("default", [f"{section}={name}"])
        assert getattr(config, section).name == name
        assert from_dict(config.as_dict()) == config


def test_every_typo_of_one_letter_finds_the_key_that_was_meant() -> None:
    tree = load().as_dict()
    for section in SECTIONS:
        for key in tree[section]:
            if key == "name" or len(key) < 5:
                continue
            typo = key[:2] + key[3:]
            with pytest.raises(FedsimError) as caught:
                load("default", [f"{section}.{typo}=1"])
            assert f"Unknown key '{section}.{typo}'" in str(caught.value)
            assert f"did you mean '{section}.{key}'?" in str(caught.value)


def test_a_mistake_in_a_preset_names_the_file_and_one_in_an_override_does_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[server]\ncohrt = 3")
    for overrides in ([], ["client.epochs=2"]):
        with pytest.raises(FedsimError) as caught:
            load(str(file), overrides)
        said = "Unknown key 'server.cohrt': did you mean 'server.cohort'?"
        assert str(caught.value) == f"{file}: {said}"
    file.write_text("[server]\ncohort = 3")
    with pytest.raises(FedsimError, match=r"^Unknown key 'client\.epoch'"):
        load(str(file), ["client.epoch=2"])


def test_an_unknown_name_without_a_near_one_lists_what_there_is() -> None:
    with pytest.raises(FedsimError, match=r"choose one of: .*fedavg, .*fedsgd"):
        load("default", ["strategy=qqq"])
    assert nearest("xx", ["b", "a"]) == "choose one of: a, b"


@pytest.mark.parametrize(
    "override",
    [
        "client.epochs=1.0",  # a float that happens to be whole is still not a count
        "client.epochs=true",
        'client.epochs="1"',
        "client.lr='1.0'",
        "client.lr=true",
        "client.lr=-1",
        "client.batch_size=0",
        "server.average=1.0",
        "server.average=nan",
        "evaluation.trigram=1",
        "evaluation.trigram=yes",
        "canaries.users=4",
        "canaries.users=[1.5]",
        "canaries.users=[0]",
        "model.hidden=inf",
        "model.dropout=1.0",
        "engine.name=dask",
        "data.name=3",
        "data.path=3",
        "optimizer.lr=[1]",
        "optimizer.lr={a=1}",
        "optimizer.lr=12:30:00",
    ],
)
def test_values_of_another_type_or_range_are_refused_by_name(override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(FedsimError) as caught:
        load("default", [override])
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_no_override_whatever_ends_in_anything_but_a_sentence(a: str, b: str, value: str) -> None:
    for text in (f"{a}={value}", f"{a}.{b}={value}", f"client.{b}={value}", f"model.hidden={value}",
                 f"model={value}", f"seed={value}", f"data.path={value}", value):  # fmt: skip
        try:
            config = load("default", [text])
        except FedsimError:
            continue
        assert from_dict(json.loads(config.as_json())) == config


def test_whole_numbers_are_fine_where_a_rate_is_asked_for() -> None:
    assert load("default", ["client.lr=2"]).client.lr == 2.0


def test_values_are_read_as_toml_and_else_as_text(tmp_path: Path) -> None:
    config = load(
        "default",
        ["canaries.users=[2, 3]", "evaluation.central=false", f"data.path={tmp_path}/a b=c.csv",
         "model='lstm'", "client.lr=1e-3"],
    )  # fmt: skip
    assert config.canaries.users == (2, 3)
    assert config.evaluation.central is False
    assert config.data.path == f"{tmp_path}/a b=c.csv"
    assert config.model.name == "lstm"
    assert config.client.lr == 0.001


def test_another_model_drops_the_options_of_the_presets_model(tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text('[model]\nname = "cifg-small"\nhidden = 33\n[client]\nlr = 0.25\n')
    assert load(str(preset)).model.options.hidden == 33
    other = load(str(preset), ["model=cifg"])
    assert other.model.options == MODELS["cifg"]()
    assert other.client.lr == 0.25
    # Saying the same name again changes nothing.
    assert load(str(preset), ["model=cifg-small"]).model.options.hidden == 33
    preset.write_text('model = "lstm"\n')
    assert load(str(preset)).model.name == "lstm"
    assert load(str(preset), ["model.hidden=9"]).model.options.hidden == 9


def test_the_order_of_keys_does_not_matter() -> None:
    keys = ["model=lstm", "model.hidden=9", "optimizer=adam", "optimizer.lr=0.5", "seed=4"]
    configs = [load("default", order) for order in itertools.permutations(keys)]
    assert all(config == configs[0] for config in configs)
    assert (configs[0].model.name, configs[0].model.options.hidden) == ("lstm", 9)
    # Of two values for one key the later one counts.
    assert load("default", ["seed=4", "seed=5"]).seed == 5
    assert load("default", ["model=lstm", "model=cifg"]).model.name == "cifg"


def test_a_path_of_ones_own_takes_the_place_of_the_presets_data_set() -> None:
    assert load().data.name == "chitchat"
    assert load("default", ["data.path=mine.csv"]).data.name == "own"
    both = load("default", ["data.path=sms", "data.name=nus-sms"]).data
    assert both.name == "nus-sms"
    assert load("default", ["data=nus-sms", "data.path=sms"]).data == both


def test_paths_are_found_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("default", ["data.path=../mine.csv"]).data.path == str(tmp_path.parent / "mine.csv")
    assert load("default", ["data.name=my.toml"]).data.name == str(tmp_path / "my.toml")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("default", ["data.path=~/mine.csv"]).data.path == str(tmp_path / "mine.csv")
    with pytest.raises(FedsimError, match=r"data\.path = '~nobody-of-this-name/x\.csv'"):
        load("default", ["data.path=~nobody-of-this-name/x.csv"])


def test_keys_without_effect_are_refused() -> None:
    for key in STRATEGIES["fedsgd"].without_effect:
        section, name = key.split(".")
        value = getattr(getattr(load(), section), name)
        with pytest.raises(FedsimError, match=f"{key} has no effect with strategy 'fedsgd'"):
            load("default", [f"{key}={value}", "strategy=fedsgd"])
        load("default", [f"{key}={value}"])
    # A preset may hold them: it was written for several strategies.
    assert load("default", ["strategy=fedsgd"]).strategy.name == "fedsgd"


def test_the_identity_is_all_that_may_change_a_result() -> None:
    base = load()
    assert load("default", ["engine=local"]).identity() == base.identity()
    assert load("default", ["engine.workers=7", "engine.chunk=5"]).identity() == base.identity()
    different = ["seed=2", "client.lr=0.5", "server.cohort=5", "model.hidden=9", "optimizer=adam",
                 "canaries.held_out=7", "data.max_words=9", "strategy=fedsgd"]  # fmt: skip
    identities = {base.identity(), *(load("default", [key]).identity() for key in different)}
    assert len(identities) == 1 + len(different)
    assert json.loads(base.as_json()) == base.as_dict()


def test_a_config_cannot_be_changed() -> None:
    config = load()
    with pytest.raises(AttributeError):
        config.seed = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.client.lr = 3.0
    assert isinstance(config, Config)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"sever": {}}, "did you mean 'server'?"),
        ({"server": 3}, "server = 3"),
        ({"server": "x"}, "server = 'x'"),
        ({"model": None}, "model = None"),
        ({"model": {"name": 3}}, "model = 3"),
        ({"model": {"name": ["cifg"]}}, "model = "),
        ({"seed": "1"}, "seed = '1'"),
        ({"seed": True}, "seed = True"),
        ({"seed": 1.0}, "seed = 1.0"),
    ],
)
def test_broken_trees_are_one_sentence(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(FedsimError) as caught:
        from_dict(tree)
    assert said in str(caught.value)


# -- the bricks -----------------------------------------------------------------------------------


class Oven(Options):
    """Options of a test."""

    degrees: int
    racks: tuple[int, ...] = (1,)


def test_options_name_the_key_that_is_wrong() -> None:
    assert validated(Oven, {"degrees": 200, "racks": [1, 2]}, "oven") == Oven(
        degrees=200, racks=(1, 2)
    )
    with pytest.raises(FedsimError, match=r"The key 'oven\.degrees' is missing"):
        validated(Oven, {}, "oven")
    with pytest.raises(FedsimError, match=r"Unknown key 'degres': did you mean 'degrees'\?"):
        validated(Oven, {"degrees": 1, "degres": 1}, "")
    with pytest.raises(FedsimError, match=r"oven\.racks\.1 = 'x'"):
        validated(Oven, {"degrees": 1, "racks": [1, "x"]}, "oven")


def test_a_registry_knows_its_things_once() -> None:
    registry: Registry[int] = Registry("number")
    registry.register("one")(1)
    assert (registry["one"], "one" in registry, list(registry)) == (1, True, ["one"])
    with pytest.raises(ValueError, match="two numbers are called 'one'"):
        registry.register("one")(2)
    with pytest.raises(FedsimError, match=r"There is no number 'onne': did you mean 'one'\?"):
        registry["onne"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["engine=local", "engine.workers=3"], "engine.workers has no effect with engine 'local'"),
        (
            ["evaluation.central=false", "evaluation.central_epochs=9"],
            "evaluation.central_epochs has no effect with evaluation.central = false",
        ),
        (
            ["canaries.per_cell=0", "canaries.repeats=[2]"],
            "canaries.repeats has no effect with canaries.per_cell = 0",
        ),
    ],
)
def test_keys_that_another_key_switches_off_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(FedsimError, match=re.escape(said)):
        load("default", overrides)


def test_the_learning_rate_is_constant_then_falls_to_zero() -> None:
    options = ClientOptions(lr=2.0, lr_decay=0.4)
    rates = [options.lr_in(round, rounds=10) for round in range(1, 11)]
    assert rates == pytest.approx([2.0] * 7 + [1.5, 1.0, 0.5])
    assert ClientOptions(lr=2.0).lr_in(10, rounds=10) == 2.0


def test_clients_get_their_own_part_of_the_config() -> None:
    config = load("default")
    assert client_config(config.for_clients().as_json()) == config.for_clients()
    assert "server" not in config.for_clients().as_dict()


@pytest.mark.parametrize(
    ("key", "hint"),
    [("rounds", "did you mean 'server.rounds'"), ("batch_size", "'client.batch_size'"),
     ("lr", "did you mean 'client.lr' or 'optimizer.lr' or 'pretrain.lr'?"),
     ("beta_1", "did you mean 'optimizer.beta_1'?"), ("clip_norm", "mean 'privacy.clip_norm'?"),
     ("clinet", "did you mean 'client'")],
)  # fmt: skip
def test_a_key_without_its_section_is_told_where_it_belongs(key: str, hint: str) -> None:
    with pytest.raises(FedsimError, match=re.escape(hint)):
        load("default", [f"{key}=3"])


# -- numbers that nothing could carry -------------------------------------------------------------

ABSURD = {
    "seed=-1": "at least 0 and at most 9,223,372,036,854,775,807",
    "seed=9223372036854775808": "at least 0 and at most 9,223,372,036,854,775,807",
    "server.rounds=9223372036854775808": "at least 1 and at most 10,000,000",
    "server.rounds=0": "at least 1 and at most 10,000,000",
    "server.cohort=10000000000": "at least 1 and at most 2,147,483,647",
    "server.timeout_s=1e308": "above 0 and at most 1e+09",
    "server.average=1.0": "at least 0 and below 1",
    "client.lr=1e308": "above 0 and at most 1e+12",
    "client.lr=1e-320": "no smaller than 1e-30 in size",
    "client.batch_size=1000000000": "at least 1 and at most 1,000,000",
    "client.max_grad_norm=1e300": "at least 0 and at most 1e+12",
    "optimizer.lr=1e300": "at most 1e+12",
    "model.hidden=1000000000000": "at most 2,147,483,647",
    "data.vocabulary=1000000000000": "at most 2,147,483,647",
    "canaries.references=1000000000000": "at least 1,000 and at most 1,000,000",
    "canaries.users=[1000000000000]": "at most 2,147,483,647",
    "canaries.users=[1000000]": "lower canaries.users, canaries.per_cell or canaries.sentences",
    "audit.update_canaries=1000000000000": "at least 0 and at most 1,000,000",
    "engine.workers=1000000000": "at least 0 and at most 4,096",
}


@pytest.mark.parametrize("override", ABSURD)
def test_an_absurd_number_is_refused_where_it_is_read_with_the_range(override: str) -> None:
    with pytest.raises(FedsimError) as caught:
        load("default", [override])
    assert ABSURD[override] in str(caught.value)
    assert override.partition("=")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["privacy.epsilon=8"], "set privacy=dp-fedavg beside it."),
        (["privacy=secagg", "privacy.epsilon=8"],
         "set privacy=dp-fedavg privacy.secagg_bits=22, whose updates have noise in a secure sum."),
        (["privacy=local", "privacy.bands=4"], "'local' has none such, banded has; leave it out, "
                                               "or set privacy=banded."),
        (["model=transformer", "model.hidden=20"], "set model=cifg."),
    ],
)  # fmt: skip
def test_a_key_of_another_choice_is_answered_with_one_that_has_it(
    keys: list[str], said: str
) -> None:
    with pytest.raises(FedsimError) as caught:
        load("default", keys)
    error = str(caught.value)
    assert error.startswith("Unknown key '")
    assert said in error


@pytest.mark.parametrize("name", ["dp-fedavg", "secagg"])
def test_the_advice_for_a_budget_without_a_mechanism_works(name: str) -> None:
    advice = ["privacy=dp-fedavg", *(["privacy.secagg_bits=22"] if name == "secagg" else [])]
    assert load("default", [*advice, "privacy.epsilon=8"]).privacy.options.epsilon == 8
