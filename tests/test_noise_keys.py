"""What noise is drawn from: whose key it is, where it lies, and which runs share it."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import fresh_strategy, play

import clients.app
import clients.training
from clients.private import Noise
from fedsim.config import Config, from_dict, load
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.parameters import Parameters
from fedsim.privacy import noise_keys
from fedsim.privacy.key_stream import KeyStream
from fedsim.runs import Run
from fedsim.simulation import resume, simulate
from server.privacy import new_key, resolved
from server.recording import Recorder

NOISY = ("privacy.noise_multiplier=0.5", "privacy.delta=1e-3")
SIZE = 20_000


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of keys."""
    monkeypatch.setenv("FEDSIM_KEYS", str(tmp_path / "keys"))
    return tmp_path / "keys"


def private(tiny: str, *overrides: str, name: str = "dp-fedavg") -> Config:
    config = load(tiny, [f"privacy={name}", *NOISY, *overrides])
    return resolved(config, open_federation(config))


def correlation(one: KeyStream, other: KeyStream) -> float:
    draws = [np.frombuffer(s.words(SIZE).tobytes(), np.uint8).astype(float) for s in (one, other)]
    return float(np.corrcoef(*draws)[0, 1])


# -- seeded ---------------------------------------------------------------------------------------


def test_seeded_noise_is_the_same_again_and_another_where_anything_differs(
    tiny: str, tmp_path: Path
) -> None:
    """One person's words in another order are enough: else the two releases cancel it."""
    config = private(tiny, "privacy.noise=seeded")
    federation = open_federation(config)
    assert new_key(config, federation) == new_key(config, open_federation(config))
    others = [private(tiny, "privacy.noise=seeded", "client.lr=0.7"),
              private(tiny, "privacy.noise=seeded", "seed=2")]  # fmt: skip
    found = {new_key(config, federation).id, *(new_key(c, federation).id for c in others)}
    rows = Path(config.data.path).read_text().splitlines()
    user, _, text = rows[5].rpartition(",")
    rows[5] = f"{user},{' '.join(reversed(text.split()))}"
    changed = tmp_path / "changed.csv"
    changed.write_text("\n".join(rows) + "\n")
    same = replace(config, data=config.data.model_copy(update={"path": str(changed)}))
    assert same.fingerprint() == config.fingerprint()
    assert len(found | {new_key(same, open_federation(same)).id}) == 4


@pytest.mark.parametrize("name", ["local", "dp-sgd"])
def test_what_clients_draw_differs_between_trials_of_a_search(
    name: str, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At two learning rates of the server nothing else that a client is told differs."""
    drawn: list[bytes] = []

    def noticed(self: clients.app.Workplace, work: Any, parameters: Parameters) -> bytes:
        drawn.append(real(self, work, parameters))
        return drawn[-1]

    real = clients.app.Workplace.noise_key
    monkeypatch.setattr(clients.app.Workplace, "noise_key", noticed)
    for rate in ("1.0", "0.5"):
        config = private(tiny, "privacy.noise=seeded", f"optimizer.lr={rate}", "server.rounds=1",
                         "engine=local", name=name)  # fmt: skip
        play(config)
    assert len(set(drawn)) == 2
    assert all(len(key) == 32 for key in drawn)


# -- fresh ----------------------------------------------------------------------------------------


def test_fresh_noise_is_the_default_and_no_two_runs_share_it(tiny: str) -> None:
    config = private(tiny)
    assert config.privacy.options.noise == "fresh"
    strategies = [fresh_strategy(config)[0] for _ in range(2)]
    noises = [s.mechanism.noise(1, SIZE, 2.0**27, {})[0] for s in strategies]
    assert abs(np.corrcoef(*noises)[0, 1]) < 5 / SIZE**0.5
    cohorts = [[s.cohort(round).tolist() for round in range(1, 20)] for s in strategies]
    assert cohorts[0] != cohorts[1], "who is drawn is secret too"


def test_a_kept_key_is_for_its_user_alone_and_is_found_by_its_id(keys: Path) -> None:
    key = noise_keys.fresh()
    noise_keys.keep(key, Path("run"))
    (file,) = keys.glob("*.key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    noise_keys.released_once(key, 1, "digest")
    assert len(list(keys.iterdir())) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert noise_keys.kept(key.id, Path("run")) == key
    for shown in (repr(key), str(key), key.id, file.name):
        assert key.secret.hex() not in shown
    file.write_bytes(bytes(32))  # another key under its name
    with pytest.raises(FedsimError, match="can be continued only where it was begun"):
        noise_keys.kept(key.id, Path("run"))
    noise_keys.forget(key.id)
    noise_keys.forget(key.id)
    assert not list(keys.iterdir())


def everything(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())


@pytest.mark.parametrize("name", ["dp-fedavg", "blt", "adaptive"])
def test_no_key_is_in_the_run_folder_and_a_run_without_it_does_not_go_on(
    name: str, tiny: str, tmp_path: Path, keys: Path
) -> None:
    more = {"adaptive": ["privacy.bit_noise=2"], "blt": ["server.sampler=cyclic"]}.get(name, [])
    config = private(tiny, "server.rounds=3", "server.checkpoint_every=1", *more, name=name)
    run = simulate(config, tmp_path / "run", quiet=True, until=2)
    (file,) = keys.glob("*.key")
    secret, written = file.read_bytes(), everything(run.path)
    assert len(secret) == 32
    assert secret not in written
    assert secret.hex().encode() not in written
    assert run.provenance["noise"]["id"] == file.stem
    file.rename(tmp_path / "elsewhere")
    with pytest.raises(FedsimError, match="set FEDSIM_KEYS to the folder of keys if that was"):
        resume(run.path, quiet=True)
    (tmp_path / "elsewhere").rename(file)
    assert resume(run.path, quiet=True).status["state"] == "finished"
    assert not list(keys.iterdir())


def test_what_correlated_noise_remembers_cannot_be_read_in_a_checkpoint(
    tiny: str, tmp_path: Path
) -> None:
    keys = ("server.rounds=3", "server.checkpoint_every=1", "server.sampler=cyclic")
    config = private(tiny, *keys, name="blt")
    run = simulate(config, tmp_path / "run", quiet=True, until=2)
    _, arrays, _ = run.rewind()
    remembered = [a for name, a in arrays.items() if name.startswith("mechanism/")]
    assert remembered
    for array in remembered:
        bits = np.unpackbits(array.view(np.uint8)).mean()
        assert abs(bits - 0.5) < 5 * 0.5 / (8 * array.nbytes) ** 0.5, "noise has an exponent"


def test_a_round_that_comes_out_otherwise_after_an_interruption_is_not_released_again(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise is that of before: two sums under it would show the difference exactly."""
    config = private(tiny, "server.rounds=4", "server.checkpoint_every=4", "engine=local")
    real = Recorder.round_done

    def killed(self: Recorder, state: Any, outcome: Any) -> None:
        real(self, state, outcome)
        if state.round == 2:
            monkeypatch.setattr(Recorder, "checkpoint", lambda self: None)  # as by kill -9
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "round_done", killed)
        with pytest.raises(KeyboardInterrupt):
            simulate(config, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    monkeypatch.setenv("FEDSIM_KEYS", str(tmp_path / "keys"))
    local_sgd = clients.training.local_sgd

    def failing(*arguments: Any) -> Any:
        raise RuntimeError("this client is not well")

    with monkeypatch.context() as patch:
        patch.setattr(clients.training, "local_sgd", failing)
        with pytest.raises(FedsimError, match="Round 1 was released before the interruption"):
            resume(tmp_path / "run", quiet=True)
    assert clients.training.local_sgd is local_sgd
    assert resume(tmp_path / "run", quiet=True).status["state"] == "finished"
    assert not list((tmp_path / "keys").iterdir())


# -- clients --------------------------------------------------------------------------------------


def test_a_node_draws_from_a_secret_of_its_own_that_a_repeated_message_finds_again(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    key = noise_keys.client_key(str(tmp_path / "a"), "run", b"model")
    assert key == noise_keys.client_key(str(tmp_path / "a"), "run", b"model")
    others = {
        noise_keys.client_key(str(tmp_path / "a"), "run", b"another model"),
        noise_keys.client_key(str(tmp_path / "a"), "another run", b"model"),
        noise_keys.client_key(str(tmp_path / "b"), "run", b"model"),
        noise_keys.client_key("", "run", b"model"),
    }
    assert len(others | {key}) == 5
    secret = tmp_path / "a" / noise_keys.CLIENTS
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    secret.write_bytes(b"short")
    with pytest.raises(FedsimError, match="is not a key; remove it"):
        noise_keys.client_key(str(tmp_path / "a"), "run", b"model")


def test_other_settings_of_the_same_round_have_other_noise(tiny: str) -> None:
    """Else a server that asks twice, with two clip norms, would subtract it."""
    config = private(tiny, "privacy.noise=seeded", "model=cifg-small", name="local")
    strategy, _, _ = fresh_strategy(config)
    corpus = strategy.federation.corpus.digest
    told = config.for_clients().as_json()
    place = clients.app.Workplace(told, corpus, "")
    work = {"config": told, "corpus": corpus, "round": 1, "lr": 1.0, "noise": "run", "users": [1]}
    found = [work, work | {"lr": 0.5}, work | {"round": 2}]
    keys = [place.noise_key(one, strategy.state.parameters) for one in found]
    clipped = private(tiny, "privacy.noise=seeded", "privacy.clip_norm=0.1", name="local")
    other = clients.app.Workplace(clipped.for_clients().as_json(), corpus, "")
    keys.append(other.noise_key(work, strategy.state.parameters))
    assert len(set(keys)) == 4
    assert place.noise_key(work | {"users": [1, 2]}, strategy.state.parameters) == keys[0]


def test_dropout_is_refused_where_it_undoes_what_clipping_bounds(tiny: str) -> None:
    with pytest.raises(FedsimError, match=r"set model\.dropout=0"):
        private(tiny, "model=cifg-small", "model.dropout=0.1", name="dp-sgd")


def test_streams_of_a_key_are_independent() -> None:
    key = bytes(32)
    names: list[tuple[Any, ...]] = [("a", 1, 1), ("a", 1, 2), ("a", 2, 1), ("b", 1, 1), ("a", 11)]
    for i, one in enumerate(names):
        for other in names[:i]:
            assert abs(correlation(KeyStream(key, *one), KeyStream(key, *other))) < 5 / SIZE**0.5
    for one, other in (("text", "texts"), ("1", "2")):
        batches = [Noise(key, text, 1, 1, True).batches().random(50) for text in (one, other)]
        assert abs(np.corrcoef(*batches)[0, 1]) < 0.7
    with pytest.raises(ValueError, match="32 bytes"):
        KeyStream(b"short", "a")


# -- earlier versions -----------------------------------------------------------------------------


def test_a_run_of_an_earlier_version_is_read_and_not_continued(tiny: str, tmp_path: Path) -> None:
    run = simulate(private(tiny, "privacy.noise=seeded"), tmp_path / "run", quiet=True, until=2)
    tree = json.loads((run.path / "config.json").read_text())
    del tree["privacy"]["noise"]
    tree["server"]["noise_key"] = "hunter2"
    (run.path / "config.json").write_text(json.dumps(tree))
    made = json.loads((run.path / "provenance.json").read_text())
    del made["format"]
    (run.path / "provenance.json").write_text(json.dumps(made))
    (run.path / "checksums.json").unlink()  # there was none either
    old = Run.open(run.path)
    assert old.config.privacy.options.noise == "seeded"
    assert len(old.rounds) == 2
    with pytest.raises(FedsimError, match="begun by another version of fedsim"):
        resume(run.path, quiet=True)


def test_the_key_that_is_gone_is_refused_with_what_took_its_place(tiny: str) -> None:
    for bad in ("x", '""'):
        with pytest.raises(FedsimError, match=r"server\.noise_key is no key any more.*fresh"):
            load(tiny, [f"server.noise_key={bad}"])
    with pytest.raises(FedsimError, match="no key any more"):
        from_dict({"server": {"noise_key": "x"}})
