"""Named things: models, strategies, samplers, measures, readers are looked up by name here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from fedsim.errors import FedsimError

T = TypeVar("T")

# Names may be the columns of somebody's file: any number, of any length.
_COMPARED, _LISTED, _LONGEST = 1_000, 40, 60


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for a mistyped name: the closest one, or the list of those that exist."""
    shown = sorted(_short(known) for known in names)
    close = difflib.get_close_matches(_short(name), shown[:_COMPARED], n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f" and {len(shown) - _LISTED:,} more" if len(shown) > _LISTED else ""
    return f"choose one of: {', '.join(shown[:_LISTED])}{more}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."


class Registry(Generic[T]):
    """A table name -> thing, filled by one line per thing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: enter the decorated thing under `name`."""

        def enter(thing: T) -> T:
            if name in self._things:
                raise ValueError(f"two {self.kind}s are called '{name}'")
            self._things[name] = thing
            return thing

        return enter

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            raise FedsimError(f"There is no {self.kind} '{name}': {nearest(name, self._things)}")
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __contains__(self, name: object) -> bool:
        return name in self._things
