"""The base of every config section: a frozen, strictly typed record that names its mistakes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from fedsim.errors import FedsimError
from fedsim.program import command
from fedsim.registry import nearest

LONGEST = 100

# What no option that says nothing else can reasonably be beyond: a count that no array can index,
# and sizes whose square is no number any more in single precision.
MOST = 2**31 - 1
LARGEST, SMALLEST = 1e12, 1e-30

O = TypeVar("O", bound="Options")  # noqa: E741


class Options(BaseModel):
    """Fields are options; unknown keys and values of another type are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def validated(cls: type[O], values: Mapping[str, Any], where: str) -> O:
    """Build `cls` from plain values, or raise one sentence that names the key under `where`."""
    _refuse_bytes(values, where)
    try:
        # Through JSON, since strict mode there still reads an array as a tuple; TOML's dates and
        # times, which no option is, become strings.
        options = cls.model_validate_json(json.dumps(dict(values), default=str))
        _refuse_absurd(options, where)
        return options
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
    if first["type"] in _BOUNDS and len(path) == 1 and path[0] in cls.model_fields:
        message = f"it should be {range_of(cls.model_fields[path[0]])}"
    raise FedsimError(f"{key} = {short(first['input'])} is not accepted: {message}.")


def _refuse_bytes(values: Mapping[str, Any], where: str) -> None:
    """JSON is text, and a file's name may be bytes that are none."""
    for key, value in values.items():
        texts = value if isinstance(value, list | tuple) else [value]
        if any("\ud800" <= char <= "\udfff" for t in texts if isinstance(t, str) for char in t):
            name = ".".join(part for part in (where, key) if part)
            raise FedsimError(
                f"{name} = {value} has bytes that are not UTF-8, which a config cannot hold: "
                "rename the file or folder, or name a link to it."
            )


def range_of(field: FieldInfo) -> str:
    """The numbers that an option may be, in words."""
    bounds = {n: getattr(m, n) for m in field.metadata for n in _SIGNS if hasattr(m, n)}
    whole = field.annotation in (int, int | None)
    if not {"le", "lt"} & set(bounds):
        bounds["le"] = MOST if whole else LARGEST
    if not {"ge", "gt"} & set(bounds):
        bounds["ge"] = -bounds.get("le", MOST)
    said = [f"{_SIGNS[name]} {_number(bounds[name])}" for name in _SIGNS if name in bounds]
    return " and ".join(said)


# How pydantic calls what is beyond a bound, and how the bounds are said.
_BOUNDS = ("greater_than_equal", "greater_than", "less_than_equal", "less_than")
_SIGNS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _refuse_absurd(options: Options, where: str) -> None:
    """Raise FedsimError for a number that no later calculation could carry."""
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        key = f"{where}.{name}" if where else name
        for number in filter(_absurd, value if isinstance(value, tuple) else (value,)):
            allowed = range_of(field)
            if isinstance(value, tuple):
                allowed = f"at most {MOST if isinstance(number, int) else LARGEST:,}"
            elif abs(number) < SMALLEST:
                allowed += f", and no smaller than {SMALLEST:g} in size"
            raise FedsimError(f"{key} = {short(number)} is not accepted: it should be {allowed}.")


def _absurd(number: Any) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    if isinstance(number, int):
        return abs(number) > MOST
    return abs(number) > LARGEST or 0 < abs(number) < SMALLEST


def short(value: Any) -> str:
    """A value as it was given, but no more of it than a sentence can hold."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
