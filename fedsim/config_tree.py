"""The plain tree of a config: a preset's file, what its names imply, overrides on top."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

from fedsim.config_history import RETIRED
from fedsim.errors import FedsimError
from fedsim.options import short
from fedsim.paths import is_file
from fedsim.references import load as load_reference
from fedsim.registry import Registry, nearest
from fedsim.sections import DEFAULT_NAMES, NAMED_SECTIONS

_ALSO_BY_NAME = ("data", "pretrain", "engine", "canaries")


def preset_with(preset: str, explicit: list[tuple[list[str], Any]]) -> dict[str, Any]:
    """The tree of a preset (a shipped name or a TOML file) under `explicit` paths and values.

    Raises FedsimError for an unknown preset, or a path that is none.
    """
    return with_settings(_read_preset(preset), explicit)


def with_settings(tree: dict[str, Any], explicit: list[tuple[list[str], Any]]) -> dict[str, Any]:
    """The tree under `explicit` paths and values. Raises FedsimError for a path that is none."""
    for section in ("data", "pretrain"):  # your own file instead of the preset's data set
        given = any(path == [section, "path"] for path, _ in explicit)
        if given and isinstance(tree.get(section), dict):
            tree[section].pop("name", None)
    # Names first, since a name clears the section: the order of the keys must not matter.
    names = [override for override in explicit if _is_name(override[0])]
    for path, value in names:
        _override(tree, path, value)
    if any(path[0] == "strategy" for path, _ in names):  # what it implies replaces the preset's
        _imply(tree, given={path[0] for path, _ in names})
    for path, value in (override for override in explicit if not _is_name(override[0])):
        _override(tree, path, value)
    _make_absolute(tree)
    return tree


def section_of(tree: Mapping[str, Any], section: str) -> dict[str, Any]:
    """A section's keys. Raises FedsimError where it is no section."""
    values = tree.get(section, {})
    for key in values if isinstance(values, Mapping) else ():
        if key in RETIRED.get(section, {}):
            raise FedsimError(f"{section}.{key} {RETIRED[section][key]}; leave it out.")
        if key in NAMED_SECTIONS:  # no option is called so; the section is meant
            raise FedsimError(f"Unknown key '{section}.{key}': '{key}' is a section: {key}=NAME.")
    if isinstance(values, str) and section in {*NAMED_SECTIONS, *_ALSO_BY_NAME}:
        return {"name": values}
    if not isinstance(values, Mapping):
        raise FedsimError(
            f"{section} = {short(values)} is not accepted: it is a section with keys."
        )
    return dict(values)


def presets() -> dict[str, str]:
    """The presets that ship: name -> first comment line of the file."""
    out = {}
    for entry in sorted(resources.files("fedsim.presets").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".toml"):
            out[entry.name.removesuffix(".toml")] = entry.read_text().splitlines()[0].lstrip("# ")
    return out


def _read_preset(preset: str) -> dict[str, Any]:
    if preset.endswith(".toml"):
        source: Any = Path(preset)
        if not is_file(source):
            raise FedsimError(f"There is no preset file {preset}; check the path.")
    else:
        if preset not in presets():
            raise FedsimError(f"There is no preset '{preset}': {nearest(preset, presets())}")
        source = resources.files("fedsim.presets") / f"{preset}.toml"
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number without end
        raise FedsimError(f"{preset} is not valid TOML: {error}.") from None
    except OSError as error:
        raise FedsimError(f"Cannot read {preset}: {error.strerror}.") from None


def _imply(tree: dict[str, Any], given: set[str]) -> None:
    """Set the names that the strategy implies, unless they were `given` beside it."""
    for key, value in _implied(tree).items():
        if "." not in key and key not in given:
            _override(tree, [key], value)


def _implied(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the strategy of a tree implies."""
    strategies: Registry[Any] = load_reference(NAMED_SECTIONS["strategy"])
    name = section_of(tree, "strategy").get("name", DEFAULT_NAMES["strategy"])
    return strategies[name].implies if isinstance(name, str) else {}


def with_implied(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with what its strategy implies wherever it says nothing itself."""
    out = dict(tree)
    for key, value in _implied(tree).items():
        section, _, option = key.partition(".")
        out[section] = {option or "name": value, **section_of(out, section)}
    return out


def _is_name(path: list[str]) -> bool:
    return len(path) == 1 or path[1:] == ["name"]


def _override(tree: dict[str, Any], path: list[str], value: Any) -> None:
    section = path[0]
    if len(path) == 1 and section != "seed":
        path = [section, "name"]
    if len(path) > 2 or (len(path) == 2 and section == "seed"):
        raise FedsimError(f"Unknown key '{'.'.join(path)}'; keys have the form section.key.")
    if len(path) == 1:
        tree[section] = value
        return
    values = tree.setdefault(section, {})
    if isinstance(values, str):
        values = tree[section] = {"name": values}
    if not isinstance(values, dict):
        raise FedsimError(
            f"{section} = {short(values)} is not accepted: it is a section with keys."
        )
    if path[1] == "name" and section in NAMED_SECTIONS and values.get("name") != value:
        # The preset's other keys belonged to the thing that was replaced.
        tree[section] = {"name": value}
    else:
        values[path[1]] = value


def _make_absolute(tree: dict[str, Any]) -> None:
    """A run must find its corpora again from another working directory."""
    for section, key in product(("data", "pretrain"), ("path", "name")):
        values = tree.get(section)
        value = values.get(key) if isinstance(values, dict) else None
        if isinstance(value, str) and (key == "path" or value.endswith(".toml")):
            try:
                tree[section][key] = str(Path(value).expanduser().resolve())
            except (ValueError, RuntimeError) as error:  # a NUL, a home that nobody has
                raise FedsimError(
                    f"{section}.{key} = {short(value)} is not accepted: {error}."
                ) from None
