"""Names on disk with controls, marks of direction or bytes that are no text: shown and pasted."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from fedsim import streams
from fedsim.config import Config
from fedsim.consoles import new_console
from fedsim.data.options import DataOptions
from fedsim.errors import FedsimError
from fedsim.options import validated
from fedsim.paths import check_new
from fedsim.program import command, quoted
from fedsim.report import write_report
from fedsim.runs import Run
from fedsim.showing import one_line, shown
from fedsim.simulation import simulate

ROOT = Path(__file__).resolve().parents[1]
# A title for the terminal, red letters, a line's start, another direction, a byte that is no text.
VILE = os.fsdecode(b"\x1b]0;owned\x07\x1b[31mrun\r\xe2\x80\xae caf\xe9")
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\udce9]")


def bash(script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What a shell makes of it."""
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, env={**os.environ, **environment}, timeout=300
    )


def words_read_by_bash(words: list[str]) -> list[bytes]:
    """Words as a program that a shell starts is given them."""
    done = bash("printf '%s\\0' " + " ".join(map(quoted, words)))
    assert done.returncode == 0, done.stderr
    return done.stdout.split(b"\0")[:-1]


# -- what is shown --------------------------------------------------------------------------------


def test_text_of_any_language_stays_and_controls_do_not() -> None:
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    for text in ("plain", "שלום", persian, "👩\u200d👧", "a\tb\nc", "Straße"):
        assert shown(text) == text
    assert not HIDDEN.search(shown(VILE))
    assert shown("a\rb\x1b[2Jc\u2066d\u2029") == "a\ufffdb\ufffd[2Jc\ufffdd\ufffd"
    assert one_line(Path("a\nError: all is lost\tb")) == "a\ufffdError: all is lost\ufffdb"


def test_standard_streams_screen_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    stream = streams.Screened(buffer, "utf-8", "backslashreplace", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    print(VILE)
    assert not HIDDEN.search(buffer.getvalue().decode())
    assert "run" in buffer.getvalue().decode()


def test_a_console_shows_names_literally_and_keeps_its_own_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = io.BytesIO()
    stream = streams.Screened(buffer, "utf-8", "backslashreplace", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    console = new_console(force_terminal=True, width=60)
    console.print("[/red] :bug: \x1b[2J", style="bold")
    table = Table(title="[/x]")
    table.add_column("[/y]")
    table.add_row("[/z]\x1b[2J")
    console.print(table)
    said = buffer.getvalue().decode()
    assert all(name in said for name in ("[/red] :bug:", "[/x]", "[/y]", "[/z]"))
    assert "\x1b[2J" not in said
    assert "\x1b[1m" in said


# -- what is pasted -------------------------------------------------------------------------------


def test_a_hint_of_plain_words_is_plain() -> None:
    assert quoted("runs/a-1") == "runs/a-1"
    assert quoted("a b's") == """'a b'"'"'s'"""
    assert quoted("straße") == "'straße'"
    assert quoted("caf\udce9\n'") == r"$'caf\xe9\x0a\''"


@given(st.lists(st.binary(min_size=1, max_size=12).filter(lambda b: 0 not in b), min_size=1))
def test_a_shell_reads_every_name_back(names: list[bytes]) -> None:
    said = [quoted(os.fsdecode(name)) for name in names]
    assert all(word.isprintable() for word in said)
    assert words_read_by_bash([os.fsdecode(name) for name in names]) == names


def test_in_a_terminal_without_umlauts_they_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert quoted("straße") == r"$'stra\xc3\x9fe'"
    assert words_read_by_bash(["straße"]) == ["straße".encode()]


def test_a_new_name_must_be_shown(tmp_path: Path) -> None:
    check_new(tmp_path / "caf\udce9")  # a byte of another encoding harms nobody
    for name in ("a\x1b[31m", "a\u202eb", "a\u2028b", "a\nb"):
        with pytest.raises(FedsimError, match=r"has a character that is not shown \(U\+"):
            check_new(tmp_path / name)


@pytest.mark.parametrize("key", ["path", "text_column"])
def test_a_config_says_that_it_holds_text_only(key: str) -> None:
    said = rf"data\.{key} = caf\ufffd has bytes that are not UTF-8.*rename the file"
    with pytest.raises(FedsimError, match=said):
        validated(DataOptions, {"path": "x.csv", key: "caf\udce9"}, "data")


# -- real commands --------------------------------------------------------------------------------


@pytest.fixture
def vile(config: Config, tmp_path: Path) -> Path:
    """A paused run in a folder that somebody gave such a name."""
    simulate(config, tmp_path / "run", quiet=True, until=2)
    return (tmp_path / "run").rename(tmp_path / VILE)


@pytest.mark.parametrize("name", ["[/red]", "[bold]x :bug:"])
def test_a_name_that_looks_like_markup_breaks_nothing(
    name: str, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fedsim.cli.show import print_run

    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(finished.path)
    run = Run.open(tmp_path / name)
    (run.path / "report.html").touch()
    try:
        print_run(run, as_json=False)
        assert f"/{name}/report.html" in capsys.readouterr().out
    finally:
        (run.path / "report.html").unlink()


def test_a_page_holds_nothing_that_is_not_shown(vile: Path) -> None:
    page = write_report(Run.open(vile)).read_text("utf-8")
    assert not HIDDEN.search(page)
    assert "run" in page


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_hint_about_any_folder_can_be_pasted(vile: Path, locale: str) -> None:
    """`show` of a paused run says how to go on, and bash does so."""
    program = f"{sys.executable} {ROOT / 'run_sim.py'}"
    told = bash(f"{program} show {quoted(str(vile))}", LC_ALL=locale)
    assert told.returncode == 0, told.stderr
    said = told.stdout.decode()
    assert not HIDDEN.search(said)
    hint = said.partition("continue with: ")[2].splitlines()[0]
    resumed = bash(hint, LC_ALL=locale)
    assert resumed.returncode == 0, resumed.stderr
    assert not HIDDEN.search(resumed.stderr.decode())
    assert Run.open(vile).status["state"] == "finished"
    again = bash(hint, LC_ALL=locale)
    assert again.returncode == 2
    assert again.stderr.decode().strip().endswith("is finished; there is nothing to resume.")
    assert "Traceback" not in again.stderr.decode()


def test_the_hint_of_a_command_is_made_of_quoted_words() -> None:
    assert command("resume", "caf\udce9").endswith(r"resume $'caf\xe9'")
