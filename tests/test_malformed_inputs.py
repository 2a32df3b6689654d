"""Malformed input, each through the command line: one sentence that names the file, exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from foreign_files import installed
from malformed_data import DATA, RECIPES, recipe

from fedsim.cli.main import EXIT_USER_ERROR, main


def _refused(arguments: list[str], said: str, file: Path, run: Callable[[list[str]], str]) -> None:
    error = run(arguments)
    assert error.startswith("Error: ")
    sentence = error.removesuffix("\n")
    assert sentence.isprintable(), "one line, and nothing that a terminal would obey"
    assert len(sentence) < 2_100
    assert said in sentence
    assert str(file) in sentence or str(file.parent) in sentence


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Run the command line; what it wrote to stderr, after the exit code of a mistake."""

    def command(arguments: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", ["fedsim", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == EXIT_USER_ERROR
        written = capsys.readouterr()
        assert not written.out
        return written.err

    return command


@pytest.mark.parametrize(
    ("data", "case"), [(data, case) for data, cases in DATA.items() for case in cases]
)
def test_malformed_data(data: str, case: str, tmp_path: Path, run: Callable) -> None:
    if data == "hdf5" and not installed("h5py"):
        pytest.skip("h5py is not installed (the extra tff)")
    make, said = DATA[data][case]
    name = "tff" if data == "hdf5" else data
    if data == "chitchat":  # the shipped recipe reads its package only
        name = str(recipe('"table"', '"chitchat"')(tmp_path))
    (tmp_path / "data").mkdir()
    path = make(tmp_path / "data")
    _refused(["data", "show", name, "--path", str(path)], said, path, run)


@pytest.mark.parametrize("case", RECIPES)
def test_malformed_recipes(case: str, tmp_path: Path, run: Callable) -> None:
    make, said = RECIPES[case]
    file = make(tmp_path)
    _refused(["data", "show", str(file)], said, file, run)


def test_there_are_many() -> None:
    assert sum(map(len, [*DATA.values(), RECIPES])) >= 100
