"""`keys`: every config key with its default and what it means, under a preset and overrides."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape

from fedsim import config as configs
from fedsim.cli.train import Json, Overrides
from fedsim.consoles import new_console
from fedsim.options import Options
from fedsim.references import load as load_reference
from fedsim.sections import NAMED_SECTIONS, PLAIN_SECTIONS


def keys(
    overrides: Overrides = None,
    preset: Annotated[str, typer.Option(help="a shipped preset, or a TOML file")] = "default",
    as_json: Json = False,
) -> None:
    """List the config keys, their values under a preset and overrides, and the names to choose."""
    rows = _rows(configs.load(preset, overrides or []))
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    console = new_console(markup=True)
    for row in rows:
        value = json.dumps(row["value"])
        what = f"  [dim]{escape(row['description'])}[/dim]" if row["description"] else ""
        console.print(f"{row['key']} = {escape(value)}{what}", soft_wrap=True)


def _rows(config: configs.Config) -> list[dict[str, Any]]:
    rows = [_row("seed", config.seed, "of all randomness")]
    for section in (*NAMED_SECTIONS, *PLAIN_SECTIONS):
        chosen = getattr(config, section)
        if isinstance(chosen, configs.Named):
            names = sorted(load_reference(NAMED_SECTIONS[section]))
            rows.append(_row(section, chosen.name, f"one of: {', '.join(names)}"))
            chosen = chosen.options
        rows += _fields(section, chosen)
    return rows


def _fields(section: str, options: Options) -> list[dict[str, Any]]:
    values = options.model_dump(mode="json")
    fields = type(options).model_fields
    return [_row(f"{section}.{k}", v, fields[k].description or "") for k, v in values.items()]


def _row(key: str, value: Any, description: str) -> dict[str, Any]:
    return {"key": key, "value": value, "description": description}
