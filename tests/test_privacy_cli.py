"""The `privacy` commands: the numbers of the room in JSON, words for people, one sentence else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from fedsim.cli import main as cli

PLAN = "--users 100000 --cohort 1000 --rounds 200 --noise-multiplier 4 --delta 1e-6"

Command = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def privacy(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run `privacy ...` in this process: exit code, stdout, stderr."""

    def run(arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["run_sim.py", "privacy", *arguments.split()])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capfd.readouterr()

    return run


def test_epsilon_in_json(privacy: Command) -> None:
    code, out, err = privacy(f"epsilon {PLAN} --sampler poisson --json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["epsilon"] < said["epsilon_rdp"]
    assert said["delta"] == 1e-6
    assert said["adjacency"] == "zero out one user; the number of users is public"
    assert said["sampler"] == "poisson"
    assert "PLD, dp-accounting 0.6" in said["accountant"]
    assert said["rounds"] == 200


def test_a_strategy_with_its_options(privacy: Command) -> None:
    schema = "--sampler cyclic --mechanism tree --participations 2 --min-separation 50"
    code, out, _ = privacy(f"epsilon {PLAN} {schema} --restart-every 100 --json")
    assert code == 0
    said = json.loads(out)
    assert said["options"] == {"restart_every": 100}
    assert said["rho"] == pytest.approx(said["sensitivity"] ** 2 / 32)
    completed = json.loads(
        privacy(f"epsilon {PLAN} {schema} --restart-every 100 --completion --json")[1]
    )
    assert completed["epsilon"] > said["epsilon"], "a completed tree is deeper"


def test_words_name_all_that_epsilon_depends_on(privacy: Command) -> None:
    code, out, _ = privacy(f"epsilon {PLAN} --sampler cyclic")
    assert code == 0
    for word in ("epsilon", "at delta = 1e-06", "holds for   the ", "exact Gaussian", "cyclic",
                 "zero out one user", "at most 2 rounds of a user", "every global model", "rho",
                 "mu"):  # fmt: skip
        assert word in out


@pytest.mark.parametrize("noise", ["1e-15 --sampler poisson", "1e-30 --sampler cyclic"])
def test_noise_that_hides_nothing_has_an_epsilon_too(privacy: Command, noise: str) -> None:
    code, out, err = privacy(
        f"epsilon --users 1000 --cohort 20 --rounds 3 --noise-multiplier {noise}"
    )
    assert (code, err) == (0, "")
    assert "e+" in out.splitlines()[0]


def test_who_composes_by_hand_is_never_told_too_little(privacy: Command) -> None:
    """Six participations: sqrt(6) = 2.4494897."""
    plan = "epsilon --users 1000 --cohort 20 --rounds 300 --sampler cyclic"
    out = privacy(f"{plan} --noise-multiplier 1.23456789")[1]
    assert "noise multiplier 1.23456, sensitivity 2.44949" in out
    out = privacy("calibrate --users 1000 --cohort 20 --rounds 300 --sampler cyclic --epsilon 2")[1]
    found = float(out.splitlines()[0].split(" = ")[1])
    kept = json.loads(privacy(f"{plan} --noise-multiplier {found} --json")[1])
    assert kept["epsilon"] <= 2, "with the noise that is printed"


def test_delta_is_recommended_where_it_is_not_given(privacy: Command) -> None:
    plan = PLAN.replace("--delta 1e-6", "")
    said = json.loads(privacy(f"epsilon {plan} --sampler cyclic --json")[1])
    assert said["delta"] == pytest.approx(100_000**-1.1)


@pytest.mark.parametrize(("change", "told"), [("--noise-multiplier 0", "inf"), ("--rounds 0", 0)])
def test_without_noise_or_rounds_it_is_a_number_too(
    privacy: Command, change: str, told: object
) -> None:
    plan = " ".join([*PLAN.split(" --delta")[:1], change])  # the last of an option counts
    code, out, err = privacy(f"epsilon {plan} --json")
    assert (code, err) == (0, "")
    assert json.loads(out, parse_constant=pytest.fail)["epsilon"] == told
    words = privacy(f"epsilon {plan}")[1]
    shown = "∞ (no guarantee)" if told == "inf" else told
    assert words.startswith(f"epsilon     {shown} at delta")
    assert "is above" not in words


@pytest.mark.parametrize(
    ("left_out", "solved"),
    [("--noise-multiplier 4", "noise_multiplier"), ("--rounds 200", "rounds"),
     ("--cohort 1000", "cohort")],
)  # fmt: skip
def test_calibrate_finds_what_is_left_out(privacy: Command, left_out: str, solved: str) -> None:
    plan = PLAN.replace(left_out, "")
    code, out, _ = privacy(f"calibrate {plan} --sampler cyclic --epsilon 2 --json")
    assert code == 0
    said = json.loads(out)
    assert said["solved"] == solved
    assert said["epsilon"] <= said["target_epsilon"] == 2
    assert f"{solved} = " in privacy(f"calibrate {plan} --sampler cyclic --epsilon 2")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (f"epsilon {PLAN} --mechanism tree --sampler poisson", "take sampler 'cyclic'"),
        (f"epsilon {PLAN} --bands 4", "bands has no effect"),
        (f"calibrate {PLAN} --epsilon 2", "the one that is left out"),
        ("calibrate --users 1000 --cohort 10 --epsilon 2", "the one that is left out"),
        ("epsilon --users 1 --cohort 1 --rounds 1 --noise-multiplier 1", "2 or more"),
    ],
)
def test_mistakes_are_one_sentence(privacy: Command, arguments: str, said: str) -> None:
    code, out, err = privacy(arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
