"""LiRA and RMIA by hand, on Gaussians where the best attack is known, and on a tiny federation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from federations import write_chat, write_preset
from scipy.stats import norm

from fedsim.config import Config, from_dict, load
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage import shadow
from fedsim.leakage.base import Subject
from fedsim.leakage.checks import CHECKS
from fedsim.leakage.measures.shadows import Shadows, participants, shadow_config
from fedsim.models import build
from fedsim.runs import Run
from fedsim.simulation import simulate
from fedsim.steps import Heard, nobody
from server.privacy import resolved

CHECK = "membership shadows"

# -- formulas -------------------------------------------------------------------------------------


def some_phi(shadows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """phi, those of the shadows, and who is inside; the first target is in all of them."""
    rng = np.random.default_rng(0)
    inside = rng.random((shadows, 5)) < 0.5
    inside[:, 0] = True
    return rng.normal(-2, 1, 5), rng.normal(-2, 1, (shadows, 5)), inside


def test_few_shadows_share_one_variance() -> None:
    _, values, inside = some_phi(10)
    mean, deviation = shadow.moments(values, ~inside)
    assert np.isnan(mean[0])
    outside = [values[~inside[:, j], j] for j in range(1, 5)]
    assert mean[1:] == pytest.approx([v.mean() for v in outside])
    squares = sum(((v - v.mean()) ** 2).sum() for v in outside)
    pooled = math.sqrt(squares / sum(len(v) - 1 for v in outside))
    assert deviation == pytest.approx([pooled] * 5)


def test_sixteen_shadows_on_a_side_have_their_own() -> None:
    _, values, inside = some_phi(40)
    _, deviation = shadow.moments(values, inside)
    for j in range(5):
        mine = values[inside[:, j], j]
        if len(mine) >= 16:
            assert deviation[j] == pytest.approx(np.std(mine, ddof=1))


def test_lira_by_hand() -> None:
    phi, values, inside = some_phi(60)
    online, offline = (f(phi, values, inside) for f in (shadow.lira_online, shadow.lira_offline))
    assert np.isnan([online[0], offline[0]]).all()
    for j in range(1, 5):
        (a, s), (b, t) = (
            (v.mean(), v.std(ddof=1)) for v in (values[inside[:, j], j], values[~inside[:, j], j])
        )
        ratio = norm(a, s).logpdf(phi[j]) - norm(b, t).logpdf(phi[j])
        assert online[j] == pytest.approx(ratio)
        assert norm.cdf(offline[j]) == pytest.approx(norm(b, t).cdf(phi[j]))


def test_rmia_by_hand() -> None:
    phi, values, inside = some_phi(12)
    rng = np.random.default_rng(3)
    theirs, their_values = rng.normal(-2, 1, 9), rng.normal(-2, 1, (12, 9))
    for a, gamma in ((1.0, 1.0), (0.3, 1.5)):
        found = shadow.rmia(phi, values, inside, (theirs, their_values), a, gamma)
        assert np.isnan(found[0])
        for j in range(1, 5):
            out = np.exp(values[~inside[:, j], j]).mean()
            mine = math.exp(phi[j]) / (0.5 * ((1 + a) * out + (1 - a)))
            wins = 0
            for z in range(9):
                mean = np.exp(their_values[:, z]).mean()
                wins += mine / (math.exp(theirs[z]) / (0.5 * ((1 + a) * mean + (1 - a)))) >= gamma
            assert found[j] == pytest.approx(wins / 9)


def _two_sided(phi: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    without, spread = shadow.moments(shadows, ~inside)
    return -norm.logpdf(phi, without, spread)


def _spread_of_the_inside(phi: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    with_it, spread = shadow.moments(shadows, inside)
    without, _ = shadow.moments(shadows, ~inside)
    return norm.logpdf(phi, with_it, spread) - norm.logpdf(phi, without, spread)


def _of_a_whole_sentence(phi: np.ndarray) -> np.ndarray:
    return np.exp(10 * phi)


def _everybodys_mean(values: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = values.shape[1]
    return np.full(n, values[chosen].mean()), np.full(n, values[chosen].std())


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("lira_offline", _two_sided),
        ("lira_online", _spread_of_the_inside),
        ("probability", _of_a_whole_sentence),
        ("moments", _everybodys_mean),
    ],
)
def test_a_broken_attack_fails_its_check(
    name: str, broken: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, name, broken)
    assert [found for found in CHECKS[CHECK]() if not found.passed]


# -- on a federation ------------------------------------------------------------------------------


@dataclass
class Bench:
    """Trains in this process, each config once."""

    folder: Path
    trained: list[str] = field(default_factory=list)

    def train(self, cells: Mapping[str, Config], heard: Heard = nobody) -> Mapping[str, Run]:
        """See `Workbench.train`."""
        runs = {}
        for name, config in cells.items():
            path = self.folder / config.identity()[:16]
            if not path.exists():
                simulate(config, path, quiet=True)
                self.trained.append(name)
            runs[name] = Run.open(path)
        return runs

    def updates(self, *_: object) -> list[np.ndarray]:
        """Not asked for."""
        raise AssertionError


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """80 people whose model learns their text by heart."""
    folder = tmp_path_factory.mktemp("crowd")
    preset = write_preset(folder / "crowd.toml", write_chat(folder / "chat.csv", people=80))
    keys = ["audit.set_apart=30", "server.cohort=20", "server.rounds=6", "canaries.per_cell=0",
            "client.epochs=4", "client.lr=4", "client.batch_size=4"]  # fmt: skip
    return load(str(preset), keys)


def subject_of(config: Config, folder: Path) -> Subject:
    """What `audit` gives a measure."""
    run = simulate(config, folder / "audited", quiet=True)
    federation = open_federation(config)
    participations = np.bincount(run.clients["user"], minlength=federation.users)
    return Subject(run.model(), config, federation, participations, 1, Bench(folder))


def test_shadows_are_runs_with_another_half(crowd: Config, tmp_path: Path) -> None:
    subject = subject_of(crowd, tmp_path)
    bench = subject.bench
    assert isinstance(bench, Bench)
    measure = Shadows(shadows=4, rounds=2)
    found = measure.measure(subject)
    assert len(bench.trained) == 4
    assert repr(measure.measure(subject).rows) == repr(found.rows)
    assert len(bench.trained) == 4  # cached
    by_group = {(row.quantity, row.group): row for row in found.rows}
    for level, interval in (("user", "DeLong"), ("sentence", "bootstrap over users")):
        for attack in ("lira-online", "lira-offline", "rmia"):
            area = by_group["auc", f"level={level} attack={attack}"]
            assert 0.3 < area.low < area.estimate < area.high <= 1.0
            assert area.interval.startswith((interval, "Clopper"))
            assert 0.2 < area.control < 0.8
            assert f"level={level} attack={attack}" in set(found.details["roc"].score)

    train = subject.federation.corpus.split("train")
    apart = set()
    for i in range(4):
        config = shadow_config(crowd, i, 2, len(train) // 2)
        run = bench.train({"again": config})["again"]
        inside = np.flatnonzero(participants(run, subject.federation.users))
        assert config.server.rounds == 2
        federation = open_federation(config)
        assert len(federation.set_apart) == len(train) // 2
        assert not set(federation.set_apart) & set(inside)
        apart.add(tuple(federation.set_apart))
    assert len(apart) == 4


def test_a_shadow_keeps_the_noise_but_promises_no_budget(crowd: Config) -> None:
    tree = crowd.as_dict()
    tree["privacy"] = {"name": "dp-fedavg", "epsilon": 5.0, "noise_multiplier": 3.0}
    tree["server"].pop("sampler")
    config = from_dict(tree)
    made = shadow_config(config, 0, 0, 20)
    assert (made.privacy.options.noise_multiplier, made.privacy.options.epsilon) == (3.0, 0.0)
    assert made.server.rounds == config.server.rounds
    assert made.seed != shadow_config(config, 1, 0, 20).seed


def test_a_shadow_of_half_the_users_keeps_no_promise_about_all_of_them(crowd: Config) -> None:
    tree = crowd.as_dict()
    tree["audit"] = {}
    apart = len(open_federation(from_dict(tree)).population) // 5  # between everybody's turns
    tree["server"] |= {
        "sampler": "cyclic", "cohort": 5, "min_separation": apart, "rounds": 2 * apart,
    }  # fmt: skip
    tree["privacy"] = {"name": "banded", "noise_multiplier": 3.0}
    config = from_dict(tree)
    resolved(config, open_federation(config))  # the run itself can keep it
    made = shadow_config(config, 0, 0, len(open_federation(crowd).corpus.split("train")) // 2)
    federation = open_federation(made)
    assert len(federation.population) // made.server.cohort < apart
    resolved(made, federation)


def test_what_shadows_cannot_do_is_said(crowd: Config) -> None:
    federation = open_federation(crowd)
    model = build(crowd.model.options, len(federation.corpus.vocabulary))
    participations = np.zeros(federation.users, int)
    participations[federation.population] = 1
    subject = Subject(model, crowd, federation, participations, 1)
    with pytest.raises(FedsimError, match="audit a finished run"):
        Shadows().measure(subject)
    large = replace(crowd, server=crowd.server.model_copy(update={"cohort": 40}))
    with pytest.raises(FedsimError, match=r"server.cohort = 40 is more than the half of the \d+"):
        Shadows().measure(replace(subject, config=large, bench=Bench(Path())))


@pytest.mark.slow
def test_shadows_find_members_of_a_model_that_learnt_them_by_heart(
    crowd: Config, tmp_path: Path
) -> None:
    found = Shadows(shadows=12).measure(subject_of(crowd, tmp_path))
    areas = {row.group: row for row in found.rows if row.quantity == "auc"}
    for attack in ("lira-online", "lira-offline", "rmia"):
        area = areas[f"level=user attack={attack}"]
        assert area.low > 0.6, attack
        assert abs(area.control - 0.5) < 0.25
        assert areas[f"level=sentence attack={attack}"].low > 0.52
