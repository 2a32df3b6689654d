"""Named things: models, strategies, samplers, measures, readers are looked up by name here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from fedsim.errors import FedsimError

T = TypeVar("T")


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for a mistyped name: the closest one, or the list of those that exist."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"choose one of: {', '.join(names)}"


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
