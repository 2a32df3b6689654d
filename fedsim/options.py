"""The base of every config section: a frozen, strictly typed record that names its mistakes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fedsim.errors import FedsimError
from fedsim.program import command
from fedsim.registry import nearest

LONGEST = 100

O = TypeVar("O", bound="Options")  # noqa: E741


class Options(BaseModel):
    """Fields are options; unknown keys and values of another type are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def validated(cls: type[O], values: Mapping[str, Any], where: str) -> O:
    """Build `cls` from plain values, or raise one sentence that names the key under `where`."""
    try:
        # Through JSON, since strict mode there still reads an array as a tuple; TOML's dates and
        # times, which no option is, become strings.
        return cls.model_validate_json(json.dumps(dict(values), default=str))
    except ValidationError as error:
        first = error.errors()[0]
    except RecursionError:
        raise FedsimError(f"{where} is not accepted: it is nested too deeply.") from None
    path = [str(part) for part in first["loc"]]
    key = ".".join([where, *path]) if where else ".".join(path)
    if first["type"] == "extra_forbidden" and not cls.model_fields:
        raise FedsimError(
            f"Unknown key '{key}': what is chosen for {where} has no options; choose another with "
            f"{where}=NAME, see `{command('keys')}`."
        )
    if first["type"] == "extra_forbidden":
        hint = nearest(path[-1], cls.model_fields)
        section = key.removesuffix(path[-1])  # what is suggested can be copied whole
        hint = hint.replace("did you mean '", f"did you mean '{section}", 1)
        raise FedsimError(f"Unknown key '{key}': {hint}")
    if first["type"] == "missing":
        raise FedsimError(f"The key '{key}' is missing; give it a value.")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("tuple_type", "list_type"):
        raise FedsimError(
            f"{key} = {short(first['input'])} is not accepted: it is a list; in a shell write "
            f'\'{key}=["a", "b"]\' with the outer quotes, or numbers without inner ones.'
        )
    raise FedsimError(f"{key} = {short(first['input'])} is not accepted: {message}.")


def short(value: Any) -> str:
    """A value as it was given, but no more of it than a sentence can hold."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
