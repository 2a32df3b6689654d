"""The pages: what they say to type works, and their examples run in a copy of the checkout."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import nbformat
import pytest
import typer
from federations import write_chat, write_preset
from nbclient import NotebookClient

from fedsim.cli.main import app
from fedsim.config import load
from fedsim.leakage import ranks
from fedsim.runs import Run

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = ("run_sim.py", "clients", "datasets", "fedsim", "server")

# A file that a page says to write, or to add a line to, and what follows it.
BLOCK = re.compile(r"^`([\w/.]+)`(, one line more)?:\n\n```\w+\n(.*?)^```$", re.M | re.S)
# An override of `compare` for another strategy than the one at hand.
OTHERS = re.compile(r"[\w-]+:").match
SHELL = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)


# -- what a page says to type ---------------------------------------------------------------------


def commands() -> Iterator[tuple[str, str]]:
    """(page, command line) for every use of the command in the pages' shell blocks."""
    for page in PAGES:
        for block in SHELL.findall(page.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):  # an environment variable
                    del words[0]
                if words[:2] == ["python", "run_sim.py"] or words[:1] == ["fedsim"]:
                    yield str(page.relative_to(ROOT)), shlex.join(words)


def parsed(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The command's names and its parameters, as the command line itself reads them.

    Raises click.UsageError for a command or an option that there is not.
    """
    command: click.Command = typer.main.get_command(app)
    names: list[str] = []
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(command)
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        names.append(str(name))
        command = found
    if words == ["--help"] or (isinstance(command, click.Group) and not words):
        return names, {}
    return names, command.make_context(" ".join(names), list(words)).params


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_what_the_pages_say_to_type_is_understood(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if page == "docs/extending.md":
        return  # of things that are not there yet: run below
    words = shlex.split(line)
    names, given = parsed(words[2:] if words[0] == "python" else words[1:])
    overrides = list(given.get("overrides") or ())
    if given.get("track"):
        overrides.append(f"tracking.to={json.dumps(given['track'].split(','))}")
    if names == ["compare"]:
        for strategy in given["strategies"].split(","):
            own = [o.removeprefix(f"{strategy}:") for o in overrides]
            load(given["preset"], [f"strategy={strategy}", *(o for o in own if not OTHERS(o))])
    elif "overrides" in given and names[0] in ("train", "keys", "study", "privacy"):
        load(given.get("preset", "default"), overrides)


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


# -- docs/extending.md ----------------------------------------------------------------------------


def files() -> list[tuple[str, bool, str]]:
    """(file, whether it is a line for one that is there, text), as on the page."""
    text = (ROOT / "docs" / "extending.md").read_text("utf-8")
    return [(path, bool(line), block) for path, line, block in BLOCK.findall(text)]


def examples() -> list[list[str]]:
    """What the page says to run."""
    return [shlex.split(line)[2:] for page, line in commands() if page == "docs/extending.md"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which somebody did what the page says."""
    copy = tmp_path_factory.mktemp("house")
    for name in CODE:
        source, target = ROOT / name, copy / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for path, a_line, text in files():
        target = copy / path
        assert target.exists() == a_line, path
        assert not a_line or text.count("\n") == 1, f"{path}: one line"
        target.parent.mkdir(exist_ok=True)
        target.write_text((target.read_text("utf-8") if a_line else "") + text, "utf-8")
    write_chat(copy / "datasets" / "diary" / "messages.csv")
    write_preset(copy / "tiny.toml", copy / "datasets" / "diary" / "messages.csv")
    return copy


def run_in(house: Path, words: list[str], out: Path) -> Run:
    """`python run_sim.py WORDS` in the copy, on its tiny federation."""
    environment = {**os.environ, "PYTHONPATH": str(house)}
    words = [*words, "--preset", "tiny.toml", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "run_sim.py", *words], cwd=house, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    return Run(out)


def told(run: Run) -> dict[str, Any]:
    """The run's config, which only its own checkout could validate."""
    return json.loads((run.path / "config.json").read_text("utf-8"))


def test_one_file_and_one_line_each() -> None:
    """Every kind on the page: a file of its own, and one line but for the data set."""
    lines = [path for path, a_line, _ in files() if a_line]
    written = [path for path, a_line, _ in files() if not a_line]
    assert len(written) == len(examples()) == 6
    assert sorted(Path(path).parent for path in lines) == sorted(
        Path(path).parent for path in written if not path.startswith("datasets/")
    )


def test_all_of_the_examples_work_together(house: Path, tmp_path: Path) -> None:
    words = ["strategy=half", "model=markov", "data=diary", "privacy=clip", "audit.set_apart=3"]
    words += ['audit.measures=["surprise"]', "--track", "lines"]
    run = run_in(house, ["train", *words], tmp_path / "run")
    config = told(run)
    assert [config[k]["name"] for k in ("strategy", "model", "data", "privacy")] == [
        "half", "markov", "diary", "clip",
    ]  # fmt: skip
    assert list(run.rounds.users_sampled) == [4] * 4  # of 7
    assert set(run.table("privacy").clip_norm) == {0.5}
    (found,) = run.table("leakage").itertuples()
    assert (found.measure, found.quantity) == ("surprise", "nats")
    assert found.low < found.estimate < found.high
    lines = [json.loads(line) for line in (run.path / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["train/loss"] == run.rounds.train_loss_nats_per_token.iloc[-1]


# -- docs/notebook.ipynb --------------------------------------------------------------------------

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
# A path of a machine: of a Unix or of Windows, from its root on.
PATH = re.compile(r"(?<![\w.<:/-])/(?:[\w.@-]+/)+[\w.@-]*|[A-Za-z]:\\\\?\w|file://")
NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?=\s?%|[^\w%]|$)")
# What theory says and no output does: the mean exposure of a sentence that was never seen, the
# most that a thousand references can show, a coin.
THEORY = {f"{ranks.null_mean_bits(1001):.2f}", f"{math.log2(1001):.2f}", "0.5"}


def stored(kind: str) -> list[Any]:
    """The notebook's cells of a kind, as they are in the repository."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def shown(cells: list[Any]) -> str:
    """All text of the outputs."""
    outputs = [output for cell in cells for output in cell.outputs]
    texts = [output.get("text", "") for output in outputs]
    for output in outputs:  # a notebook that is stored has its keys in order, one that ran has not
        texts += [text for kind, text in sorted(output.get("data", {}).items()) if "text" in kind]
    return html.unescape("\n".join(texts))


def test_the_notebook_is_stored_as_it_ran_and_tells_of_no_machine() -> None:
    cells = stored("code")
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {o.output_type for o in outputs} <= {"execute_result", "display_data", "stream"}
    assert not [o for o in outputs if o.get("name") == "stderr"], "warnings are no result"
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 2
    assert not PATH.findall(shown(cells))
    assert NOTEBOOK.stat().st_size < 300_000
    kept = nbformat.read(NOTEBOOK, as_version=4).metadata
    assert set(kept) == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in cells)


def test_figures_in_the_words_of_the_notebook_are_those_of_its_outputs() -> None:
    found = set(NUMBER.findall(shown(stored("code")))) | THEORY
    code = " ".join(cell.source for cell in stored("code"))
    for cell in stored("markdown"):
        words = re.sub(r"`[^`]*`|\]\([^)]*\)|^#.*$|^\d+\. ", "", cell.source, flags=re.M)
        for number in NUMBER.findall(words):
            said = number in found or number.replace(",", "") in code
            assert said, f"{number} is in no output: {words[:60]}"


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom() -> None:
    """On real chat text; a cell that fails raises with its traceback."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.outputs = []
    here = {"metadata": {"path": str(ROOT / "docs")}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=here).execute()
    kinds = [[sorted(o.get("data", {})) for o in cell.outputs] for cell in cells]
    assert kinds == [[sorted(o.get("data", {})) for o in c.outputs] for c in stored("code")]
    assert not PATH.findall(shown(cells))
    plain = re.compile(r"<style.*?</style>|<[^>]*>|[\d.,\s-]+", re.S)  # digits are a processor's
    assert plain.sub(" ", shown(cells)).split() == plain.sub(" ", shown(stored("code"))).split()


@pytest.mark.slow
@pytest.mark.parametrize("words", examples(), ids=lambda words: words[1])
def test_each_example_runs_as_the_page_says(words: list[str], house: Path, tmp_path: Path) -> None:
    run = run_in(house, words, tmp_path / "run")
    assert run.status["state"] == "finished"
    assert len(run.rounds) == 4
