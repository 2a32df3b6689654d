"""The Python interface: settings in every form, a run that shows itself, progress, `dir`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fedsim
from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.runs import Run
from fedsim.watching import RoundProgress


def test_dir_shows_the_interface_and_all_of_it_is_there() -> None:
    assert {"simulate", "load_config", "resume", "audit", "suggest", "Run", "FedsimError"} <= set(
        dir(fedsim)
    )
    for name in dir(fedsim):
        assert getattr(fedsim, name) is not None
    for name in fedsim.__all__:
        assert getattr(fedsim, name).__doc__


@pytest.mark.parametrize(
    "given",
    [
        lambda: fedsim.load_config("default", "server.rounds=3", "seed=2", "model=lstm-small"),
        lambda: fedsim.load_config("default", ["server.rounds=3", "seed=2", "model=lstm-small"]),
        lambda: fedsim.load_config("server.rounds=3", "seed=2", model="lstm-small"),
        lambda: fedsim.load_config("default", {"server.rounds": 3, "model": "lstm-small"}, seed=2),
        lambda: fedsim.load_config({"server": {"rounds": 3}}, seed=2, model={"name": "lstm-small"}),
        lambda: fedsim.load_config(server={"rounds": 3}, seed=np.int64(2), model="lstm-small"),
        lambda: fedsim.load_config("default", server__rounds=3, seed=2, model__name="lstm-small"),
        lambda: fedsim.load_config("default", "server.rounds=9", {"server.rounds": 3}, seed=2,
                                   model="lstm-small"),
        lambda: fedsim.load_config(load("default", ["model=lstm-small"]), "server.rounds=3",
                                   seed=2),
    ],
)  # fmt: skip
def test_settings_may_be_given_in_every_form(given: object) -> None:
    wanted = load("default", ["server.rounds=3", "seed=2", "model=lstm-small"])
    found = given()  # type: ignore[operator]
    assert isinstance(found, Config)
    assert found.as_dict() == wanted.as_dict()
    assert found.identity() == wanted.identity()


def test_lists_and_paths_are_plain_values(chat: Path) -> None:
    wanted = load("default", ["canaries.repeats=[1,5]", f"data.path={chat}"])
    found = fedsim.load_config(canaries={"repeats": (1, 5)}, data={"path": chat})
    assert found.as_dict() == wanted.as_dict()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fedsim.load_config("defautl"), "did you mean 'default'?"),
        (lambda: fedsim.load_config("default", "server.rounds"), "section.key=value"),
        (lambda: fedsim.load_config("default", {"server": {"ruonds": 3}}), "'server.rounds'"),
        (lambda: fedsim.load_config("default", sever={"rounds": 3}), "did you mean 'server'?"),
        (lambda: fedsim.load_config("default", 3), "3 is no setting"),
        (lambda: fedsim.load_config(3), "3 is no preset"),
        (lambda: fedsim.load_config("default", server__rounds="three"), "server.rounds = 'three'"),
        (lambda: fedsim.simulate("default", Path("a"), out="b"), "one folder"),
    ],
)
def test_what_is_mistaken_is_one_sentence(call: object, said: str) -> None:
    with pytest.raises(FedsimError) as caught:
        call()  # type: ignore[operator]
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_preset_and_settings_are_enough_for_a_run(
    tiny: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[RoundProgress] = []
    run = fedsim.simulate(
        tiny, "server.rounds=3", {"evaluation.every": 2}, seed=2, quiet=True, out=tmp_path / "run",
        progress=told.append,
    )  # fmt: skip
    assert capfd.readouterr().err == ""
    assert (run.config.seed, run.config.server.rounds, len(run.rounds)) == (2, 3, 3)
    assert [step.round for step in told] == [1, 2, 3]
    assert {step.rounds for step in told} == {3}
    assert [step.loss for step in told] == pytest.approx(
        run.rounds.train_loss_nats_per_token.tolist()
    )
    assert told[0].top1 is None
    first = run.evaluations[run.evaluations["round"] == 2].top1_recall.iloc[0]
    assert told[2].top1 == pytest.approx(first)
    assert told[2].seconds_left == 0


def test_a_config_and_a_folder_by_place_still_work(
    config: Config, finished: Run, tmp_path: Path
) -> None:
    assert fedsim.simulate(config, tmp_path / "run", quiet=True).digest == finished.digest


def test_a_callback_that_raises_stops_the_run_which_can_be_resumed(
    config: Config, finished: Run, tmp_path: Path
) -> None:
    def enough(step: RoundProgress) -> None:
        if step.round == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fedsim.simulate(config, out=tmp_path / "run", quiet=True, progress=enough)
    assert Run.open(tmp_path / "run").status["state"] == "interrupted"
    rounds: list[int] = []
    done = fedsim.resume(
        tmp_path / "run", quiet=True, progress=lambda step: rounds.append(step.round)
    )
    assert done.digest == finished.digest
    assert rounds == [4]


def test_a_run_shows_itself(finished: Run) -> None:
    text, page = repr(finished), finished._repr_html_()
    top1 = f"{finished.results.top1_recall.iloc[0]:.2%}"
    assert text.startswith(f"<Run {finished.path}: fedavg on ")
    assert "finished after 4 of 4 rounds" in text
    assert top1 in text
    assert "\n" not in text
    assert f"<td>{top1}</td>" in page
    assert "bits of mean exposure of 4 trained canaries" in page


def test_a_run_that_is_not_finished_shows_how_far_it_is(config: Config, tmp_path: Path) -> None:
    run = fedsim.simulate(config, tmp_path / "run", quiet=True, until=2)
    assert "paused after 2 of 4 rounds" in repr(run)
    assert "validation users" in repr(run)
    assert "<th>round</th>" in run._repr_html_()


def test_showing_never_raises_and_escapes(tmp_path: Path) -> None:
    nowhere = Run(tmp_path / "<b>")
    assert "is not a run folder" in repr(nowhere)
    assert "<b>" not in nowhere._repr_html_().replace("<b>Run</b>", "")


def test_suggestions_of_a_run(finished: Run) -> None:
    offers = fedsim.suggest(finished, "w1 w", count=2)
    assert len(offers) == 2
    assert all(word.startswith("w") and 0 < share < 1 for word, share in offers)
