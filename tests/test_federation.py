"""One corpus for the whole run: what happens when the text changes under it; the notebook's API."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from federations import write_chat

import fedsim
import server.recording
from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.runs import Run


@pytest.fixture
def own_chat(config: Config, tmp_path: Path) -> tuple[Config, Path]:
    """The tiny federation on a file of its own."""
    path = write_chat(tmp_path / "chat.csv")
    data = config.data.model_copy(update={"path": str(path)})
    return replace(config, data=data), path


def change(path: Path) -> None:
    """Somebody adds a message."""
    name = path.read_text().splitlines()[1].split(",")[0]
    with path.open("a") as file:
        file.write(f"{name},one more message that was not there before\n")


def test_a_run_is_not_resumed_on_other_text(
    own_chat: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = own_chat

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(server.recording, "measure_exposure", stop)
        with pytest.raises(KeyboardInterrupt):
            fedsim.simulate(config, tmp_path / "run", quiet=True)
    rows = len(Run.open(tmp_path / "run").rounds)
    change(path)
    with pytest.raises(FedsimError, match=r"was changed after .* began"):
        fedsim.resume(tmp_path / "run", quiet=True)
    assert len(Run.open(tmp_path / "run").rounds) == rows


def test_a_client_refuses_text_that_is_not_the_servers(
    own_chat: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = own_chat
    create = Run.create

    def create_then_change(*arguments: object) -> Run:
        run = create(*arguments)  # type: ignore[arg-type]
        monkeypatch.undo()
        change(path)
        return run

    monkeypatch.setattr(Run, "create", create_then_change)
    with pytest.raises(FedsimError, match="is not the server's"):
        fedsim.simulate(config, tmp_path / "run", quiet=True)
    assert Run.open(tmp_path / "run").status["state"] == "failed"


def test_the_second_simulation_of_a_notebook_sees_the_new_text(
    own_chat: tuple[Config, Path], tmp_path: Path
) -> None:
    config, path = own_chat
    first = fedsim.simulate(config, tmp_path / "first", quiet=True)
    change(path)
    second = fedsim.simulate(config, tmp_path / "second", quiet=True)
    assert first.provenance["corpus"]["digest"] != second.provenance["corpus"]["digest"]
    assert second.status["state"] == "finished"
