"""A data set is a declaration: `datasets/<name>/recipe.toml` says where, whose and how to cut."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

import fedsim
from fedsim.data.readers import READERS
from fedsim.data.readers.base import Reader
from fedsim.errors import FedsimError
from fedsim.options import Options
from fedsim.paths import expanded
from fedsim.registry import nearest


class _Part(Options):
    """A table of a recipe."""


class Source(_Part):
    """Where the bytes come from, and for a corpus that is not shipped the way to get it."""

    kind: Literal["package", "files", "own", "hub", "generated"]
    package: str | None = None
    version: str | None = None
    file: str | None = Field(
        default=None, description="path inside the package, with * where it is several files"
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="of that file, or of the JSON list of the hashes of the files, sorted by path",
    )
    path: str | None = Field(
        default=None, description="glob below FEDSIM_DATA or the recipe's folder"
    )
    get: str | None = Field(default=None, description="one sentence: how to get the files")
    dataset: str | None = Field(default=None, description="owner/name on the Hugging Face hub")
    revision: str | None = Field(
        default=None, pattern="^[0-9a-f]{40}$", description="commit, so that it cannot change"
    )
    split: str | None = Field(default=None, description="of the hub's data set, such as train")
    recognize: bool | None = Field(
        default=None, description="true: the files may be those of any data set that reads a path"
    )

    @model_validator(mode="after")
    def _complete(self) -> Source:
        needed = {
            "package": ("package", "version", "file", "sha256"),
            "files": ("path", "get"),
            "hub": ("dataset", "revision", "split"),
        }
        for key in [key for key in type(self).model_fields if key != "kind"]:
            given, wanted = getattr(self, key) is not None, key in needed.get(self.kind, ())
            if wanted and not given:
                raise ValueError(f"kind '{self.kind}' needs the key '{key}'")
            if (
                given
                and not wanted
                and (self.kind, key)
                not in (
                    ("own", "get"),
                    ("own", "recognize"),
                )
            ):
                raise ValueError(f"the key '{key}' has no effect with kind '{self.kind}'")
        return self

    @field_validator("path")
    @classmethod
    def _below_the_folder(cls, path: str | None) -> str | None:
        if path is not None:
            pattern = PurePath(path)
            if not pattern.parts or pattern.is_absolute() or ".." in pattern.parts or "\0" in path:
                raise ValueError("give a pattern below the folder, such as 'mine/*.txt'")
            if any("**" in part and part != "**" for part in pattern.parts):
                raise ValueError("'**' has to stand alone between two slashes")
        return path


class Cleaning(_Part):
    """What is dropped before anything is counted."""

    drop_users: tuple[str, ...] = ()
    drop_repeated_token: bool = False
    deduplicate: bool = False
    min_words: int = Field(default=50, ge=1, description="users with fewer words are dropped")
    word_users: int = Field(
        default=1, ge=1, description="words of fewer training users are left out of the vocabulary"
    )
    cap_words: int = Field(
        default=2000, ge=1, description="of each user only the first words are kept"
    )


class Split(_Part):
    """Shares of the users (train has the rest) and of a training user's sentences held out."""

    validation: float = Field(default=0.05, ge=0, lt=1)
    donors: float = Field(default=0.02, ge=0, lt=1)
    test: float = Field(default=0.15, ge=0, lt=1)
    heldout: float = Field(default=0.1, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _leave_some(self) -> Split:
        if self.validation + self.donors + self.test >= 1:
            raise ValueError("validation + donors + test must stay below 1: train has the rest")
        return self


class Expected(_Part):
    """What a build with the recipe's own settings gives; a test compares."""

    users: int
    words: int


class Federation(_Part):
    """The size of a generated federation."""

    users: int = Field(default=1000, ge=4, description="one for each part at least")
    median_sentences: float = Field(default=10.0, gt=0)
    seed: int = Field(default=0, ge=0)


class Recipe(_Part):
    """One data set; `name` and `folder` come from where the file lies, the rest from the file."""

    name: str
    folder: Path
    title: str
    licence: str
    citation: str
    homepage: str
    source: Source
    reader: dict[str, Any] = Field(default_factory=dict, description="its name and its options")
    cleaning: Cleaning = Cleaning()
    split: Split = Split()
    expected: Expected | None = None
    generated: Federation | None = None

    @model_validator(mode="after")
    def _reader_fits(self) -> Recipe:
        made = self.source.kind == "generated"
        if made != (self.generated is not None):
            raise ValueError("the table [generated] goes with source.kind = 'generated', only")
        if not made and not isinstance(self.reader.get("name"), str):
            raise ValueError("the table [reader] needs the key 'name'")
        if made and self.reader:
            raise ValueError("the table [reader] has no effect with source.kind 'generated'")
        return self

    def make_reader(self, **options: Any) -> Reader:
        """The reader with the recipe's options, `options` going before them."""
        named = {**self.reader, **options}
        kind = READERS[named.pop("name")]
        return kind.model_validate_json(_json(named))

    def key(self) -> dict[str, Any]:
        """What decides a build and its description, but not where the recipe lies."""
        return self.model_dump(mode="json", exclude={"folder", "expected"})


def recipes_folder() -> Path:
    """The folder of the recipes: the checkout's `datasets/`, else the installed package data."""
    package = Path(fedsim.__file__).parent
    beside = package.parent / "datasets"
    # In site-packages a folder of that name is Hugging Face's library, so look for a recipe.
    return beside if (beside / "own" / "recipe.toml").is_file() else package / "_recipes"


def recipe_names() -> list[str]:
    """The names of the data sets that come with fedsim."""
    return sorted(file.parent.name for file in recipes_folder().glob("*/recipe.toml"))


def load_recipe(name: str) -> Recipe:
    """The recipe called `name`, or the one in the file if `name` ends in .toml.

    Raises FedsimError for an unknown name, a missing file, broken TOML, an unknown key or a bad
    value, naming file and key.
    """
    if name.endswith(".toml"):
        file = expanded(name, "data.name")
        if not file.is_file():
            raise FedsimError(f"There is no recipe file '{name}': check the path in data.name.")
        called = file.stem if file.stem != "recipe" else file.resolve().parent.name
        return _parse(file, called)
    names = recipe_names()
    if name not in names:
        hint = nearest(name, names)
        raise FedsimError(f"There is no data set '{name}': {hint} (for your own file: data.path).")
    return _parse(recipes_folder() / name / "recipe.toml", name)


def _parse(file: Path, name: str) -> Recipe:
    try:
        values = tomllib.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise FedsimError(f"{file}: cannot be read as TOML: {error}.") from error
    for key in ("name", "folder"):
        if key in values:
            raise FedsimError(f"{file}: unknown key '{key}': the folder's name is the name.")
    try:
        recipe = Recipe.model_validate_json(
            _json({**values, "name": name, "folder": str(file.resolve().parent)})
        )
    except ValidationError as error:
        raise FedsimError(f"{file}: {_explain(error, [], values)}") from error
    if recipe.generated is None:
        try:
            recipe.make_reader()
        except ValidationError as error:
            raise FedsimError(f"{file}: {_explain(error, ['reader'], values)}") from error
        except FedsimError as error:
            raise FedsimError(f"{file}: reader.name: {error}") from error
    return recipe


def _json(values: dict[str, Any]) -> str:
    """Strict validation takes an array for a tuple only in JSON; TOML has dates, which are not."""
    return json.dumps(values, default=str)


def _explain(error: ValidationError, table: list[str], values: dict[str, Any]) -> str:
    """The first fault below `table` as one clause: the key, what is wrong, the nearest key."""
    # A misspelt key is also a missing one; the spelling is what helps.
    fault = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = [*table, *(str(part) for part in fault["loc"])]
    key = ".".join(place)
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}': {nearest(place[-1], _fields(place[:-1], values))}"
    if fault["type"] == "missing":
        return f"the key '{key}' is missing."
    message = fault["msg"].removeprefix("Value error, ")
    return f"{key + ': ' if key else ''}{message[0].lower() + message[1:]}."


def _fields(place: list[str], values: dict[str, Any]) -> list[str]:
    """The valid keys of the table at `place`."""
    if not place:
        return [key for key in Recipe.model_fields if key not in ("name", "folder")]
    if place == ["reader"]:
        return ["name", *READERS[values["reader"]["name"]].model_fields]
    models: dict[str, type[_Part]] = {
        "source": Source,
        "cleaning": Cleaning,
        "split": Split,
        "expected": Expected,
    }
    return list(models.get(place[0], Federation).model_fields)
