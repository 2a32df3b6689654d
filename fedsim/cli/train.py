"""`train`, `resume` and `presets`: start a run, continue one, list what there is to start from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fedsim import config as configs
from fedsim import config_tree
from fedsim.cli.show import print_run, resume_command
from fedsim.consoles import new_console
from fedsim.errors import FedsimError
from fedsim.program import command
from fedsim.sections import EngineOptions

Overrides = Annotated[
    list[str] | None, typer.Argument(help="section.key=value, e.g. model=lstm server.rounds=200")
]
ProfileOption = Annotated[bool, typer.Option("--profile", help="print where the time went")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]


def train(
    overrides: Overrides = None,
    preset: Annotated[str, typer.Option(help="a shipped preset, or a TOML file")] = "default",
    engine: Annotated[str, typer.Option(help="pool, local, ray or deploy")] = "",
    workers: Annotated[int | None, typer.Option(help="the same as engine.workers=")] = None,
    pretrain: Annotated[
        str, typer.Option(help="a data set, or your file: the server trains on it first")
    ] = "",
    track: Annotated[
        str | None,
        typer.Option(help="tensorboard, wandb, mlflow: who else is told, comma-separated"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the run's folder; must not exist")] = None,
    dry_run: Annotated[
        bool, typer.Option(help="print the config and the cost, do not train")
    ] = False,
    profile: ProfileOption = False,
    as_json: Json = False,
) -> None:
    """Train a federation, score it on unseen users, audit its canaries, write a report."""
    keys = list(overrides or [])
    keys += [f"engine.name={engine}"] if engine else []
    keys += [f"engine.workers={workers}"] if workers is not None else []
    keys += [pretrain_key(pretrain)] if pretrain else []
    keys += [f"tracking.to={json.dumps(_names(track))}"] if track is not None else []
    config = configs.load(preset, keys)
    if dry_run:
        from fedsim.cli.dry_run import print_plan

        print_plan(config, as_json)
        return
    from fedsim.runs import new_run_folder

    label = Path(preset).stem
    start(config, out or new_run_folder(label), as_json, profile)


def pretrain_key(corpus: str) -> str:
    """The override for `--pretrain`, which takes a data set's name or the user's own file."""
    from fedsim.data.recipes import recipe_names

    named = corpus in recipe_names() or corpus.endswith(".toml") or not _there(corpus)
    return f"pretrain.{'name' if named else 'path'}={json.dumps(corpus)}"


def _there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # nothing of that name can be
        return False


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise FedsimError("--track names nobody; give one, such as tensorboard, or leave it out.")
    return names


def run_default(as_json: bool = False) -> None:
    """What `run_sim.py` alone does."""
    from fedsim.runs import new_run_folder

    start(configs.load(), new_run_folder("default"), as_json)


def start(config: configs.Config, folder: Path, as_json: bool, profile: bool = False) -> None:
    """Run a config into a new folder and print what came out."""
    from fedsim.api import simulate

    try:
        run = simulate(config, out=folder)
    except KeyboardInterrupt:
        _say_how_to_resume(folder)
        raise typer.Exit(130) from None
    print_run(run, as_json, profile)


def resume(
    run: Annotated[Path, typer.Argument(help="the run's folder")],
    workers: Annotated[int | None, typer.Option(help="worker processes from now on")] = None,
    engine: Annotated[str, typer.Option(help="pool, local, ray or deploy, from now on")] = "",
    profile: ProfileOption = False,
    as_json: Json = False,
) -> None:
    """Continue an interrupted run; the result is that of an unbroken one."""
    from fedsim.api import resume as resume_run
    from fedsim.options import validated
    from fedsim.runs import Run

    changed = Run.open(run).config.engine.model_dump()
    changed |= {"name": engine} if engine else {}
    changed |= {"workers": workers} if workers is not None else {}
    try:
        done = resume_run(run, engine=validated(EngineOptions, changed, "engine"))
    except KeyboardInterrupt:
        _say_how_to_resume(run)
        raise typer.Exit(130) from None
    print_run(done, as_json, profile)


def presets(as_json: Json = False) -> None:
    """List the presets."""
    found = config_tree.presets()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = Table("preset", "what it is for", box=None)
    for name, purpose in found.items():
        table.add_row(name, purpose)
    new_console().print(table)


def _say_how_to_resume(folder: Path) -> None:
    from fedsim.runs import Run

    if not (folder / "status.json").is_file():
        message = "Interrupted before the first round; nothing was written."
    elif Run(folder).status["state"] == "finished":
        message = f"Interrupted; the run is finished, see: {command('show', folder)}"
    else:
        message = f"Interrupted; continue with: {resume_command(folder)}"
    print(message, file=sys.stderr)
