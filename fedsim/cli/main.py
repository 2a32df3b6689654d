"""The root command: mounts the others and turns errors into one sentence and an exit code."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path

import click
import typer
from typer.core import TyperArgument
from typer.main import get_command, get_params_from_function

from fedsim import program
from fedsim.cli import (
    audit,
    cache,
    compare,
    data,
    deploy,
    keys,
    privacy,
    report,
    reproduce,
    show,
    studies,
    suggest,
    train,
)
from fedsim.cli.surplus import SETTING, surplus
from fedsim.engines import starting
from fedsim.errors import FedsimError
from fedsim.shortage import shortage

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
# What a machine may refuse at any moment; another OSError is a bug.
_OF_THE_SYSTEM = (
    errno.EACCES, errno.EAGAIN, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE,
    errno.ENAMETOOLONG, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EPERM, errno.EROFS,
)  # fmt: skip
_SUGGESTED = re.compile(r"(Did you mean [^?]*\?) \1")  # by click, and by typer again
STARTS_WORKERS = (None, "train", "resume")

app = typer.Typer(
    help="A federated keyboard lab: train a next-word model over simulated phones, and measure "
    "what it memorized. Without a command it runs the default preset.",
    epilog="Exit codes: 0 fine; 2 something to mend, said in one sentence; 3 an audit that "
    "contradicts a guarantee; 130 interrupted with Ctrl-C; 141 nobody reads the result, as behind "
    "`| head`; 1 a bug.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("train")(train.train)
app.command("resume")(train.resume)
app.command("presets")(train.presets)
app.command("keys")(keys.keys)
app.command("show")(show.show)
app.command("report")(report.report)
app.command("audit")(audit.audit)
app.command("selfcheck")(audit.selfcheck)
app.command("compare")(compare.compare)
app.command("reproduce")(reproduce.reproduce)
app.command("suggest")(suggest.suggest)
app.add_typer(cache.app, name="cache")
app.add_typer(data.app, name="data")
app.add_typer(deploy.app, name="deploy")
app.add_typer(privacy.app, name="privacy")
app.add_typer(studies.app, name="study")


@app.callback(invoke_without_command=True)
def root(context: typer.Context, as_json: train.Json = False) -> None:
    """Run the default preset when no command is given."""
    starting.prepare(workers=context.invoked_subcommand in STARTS_WORKERS)
    if context.invoked_subcommand is None:
        train.run_default(as_json)
    elif as_json:
        raise FedsimError(f"Write --json after '{context.invoked_subcommand}'.")


def command_line() -> click.Command:
    """What `app` describes, ready to be called.

    typer below 0.21, which flwr asks for, sets an argument's help before recent releases of click
    do so themselves and clear it; every argument gets its text again here.
    """
    command = get_command(app)
    _tell_arguments(command)
    _refuse_surplus(command)
    return command


def _tell_arguments(command: click.Command) -> None:
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _tell_arguments(below)
    said = get_params_from_function(command.callback) if command.callback else {}
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            parameter.help = said[str(parameter.name)].default.help


def _refuse_surplus(command: click.Command) -> None:
    """Words that a command has no place for are refused with what to write, not just counted."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _refuse_surplus(below)
        return
    command.allow_extra_args = True
    parse = command.parse_args

    def parse_all(ctx: click.Context, args: list[str]) -> list[str]:
        left = parse(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            raise FedsimError(surplus(ctx.command_path.partition(" ")[2], ctx.args))
        return left

    command.parse_args = parse_all  # type: ignore[method-assign]


def main() -> None:
    """Entry point of `run_sim.py` and of the `fedsim` command."""
    try:
        code = _run(command_line())
    except FedsimError as error:
        code = _refused(str(error))
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            raise
        where = f"{error.filename}: " if error.filename else ""
        code = _refused(shortage(error) or f"The system refuses: {where}{error.strerror}.")
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except Exception as error:
        said = shortage(error)
        if said is None:
            raise
        code = _refused(said)
    sys.exit(code)


def _run(line: click.Command) -> int:
    """Do what the words of the command line say; returns the exit code."""
    try:
        with line.make_context(Path(sys.argv[0]).name, sys.argv[1:]) as context:
            line.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        words = error.ctx.command_path.split()[1:] if error.ctx else []
        said = _SUGGESTED.sub(r"\1", error.format_message().strip().rstrip("."))
        given = sys.argv[1:]
        if not words and (SETTING.match(given[0]) or given[0].startswith("-")):
            meant = program.command("train", *given)
            return _refused(f"{said}: words for a run come behind `train`, as in `{meant}`.")
        see = " See" if said.endswith("?") else "; see"
        return _refused(f"{said}{see} `{program.command(*words, '--help')}`.")
    except click.ClickException as error:
        return _refused(error.format_message())
    return 0


def _refused(sentence: str) -> int:
    print(f"Error: {FedsimError(sentence)}", file=sys.stderr)
    return EXIT_USER_ERROR
