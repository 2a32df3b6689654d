"""What a user can say about the data: which data set, which columns, how much of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fedsim.data.private_vocabulary import Release
from fedsim.data.readers.delimited import Quoting
from fedsim.data.readers.encodings import need_encoding
from fedsim.data.segment import Segment
from fedsim.data.text import Case, Emoji, Numbers, Sentences, Tokenization
from fedsim.errors import FedsimError
from fedsim.options import Options

Encoding = Annotated[str | None, AfterValidator(lambda name: name and need_encoding(name))]
# A list in TOML and JSON is a tuple here, which strict validation knows in JSON alone.
Names = Annotated[
    tuple[str, ...] | None, BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)
]
_ENCODING = "of the text in your file, such as cp1252; UTF-8 where it is left out"
_QUOTING = (
    "of your CSV: csv (quotes inside of quotes are doubled), backslash (as Spark writes them), "
    "escapes (as MySQL and PostgreSQL write text), none (a quote is text); left out it "
    "is csv, but refuses what may be misread"
)
TEXT_OPTIONS = tuple(field.name for field in fields(Tokenization))


class DataOptions(Options):
    """Which corpus to open and how to cut it; None means what the recipe says.

    `path` without `name` means the user's own file, read by the recipe `own`; a `name` that ends
    in .toml is the path of a user's own recipe.
    """

    name: str = Field(default="chitchat", description="data set, or the path of a recipe .toml")
    path: str | None = Field(default=None, description="your own file, folder or corpus directory")
    user_column: str = Field(default="user", description="column that says who wrote a row")
    text_column: str = Field(default="text", description="column with the text")
    encoding: Encoding = Field(default=None, description=_ENCODING)
    quoting: Quoting | None = Field(default=None, description=_QUOTING)
    vocabulary: int = Field(default=10_000, ge=10, description="ids, special ones included")
    max_words: int = Field(default=30, ge=2, description="longer messages are cut into pieces")
    emoji: Emoji = Field(default="keep", description="keep: each is a word; drop")
    case: Case = Field(default="fold", description="fold: lower case; keep")
    numbers: Numbers = Field(
        default="class", description="class: all are <number>, never suggested; keep: as words"
    )
    sentences: Sentences = Field(
        default="split", description="split after . ! ? and at a line's end; keep: a message is one"
    )
    cap_words: int | None = Field(default=None, ge=1, description="words kept of each user")
    min_words: int | None = Field(default=None, ge=1, description="users with fewer are dropped")
    word_users: int | None = Field(
        default=None, ge=1, description="words of fewer training users are left out"
    )
    segment: Segment = Field(
        default="characters",
        description="text without spaces (Thai, Khmer, ...): characters; words (of Thai, by the "
        "dictionary of pythainlp); spaces: only those that it has",
    )
    drop_users: Names = Field(
        default=None, description='users who are left out by name, such as "[deleted]"'
    )
    deduplicate: bool | None = Field(
        default=None, description="true: of each user's equal messages only the first is kept"
    )
    vocabulary_noise: float = Field(
        default=0.0,
        ge=0,
        description="noise on the counts that choose the vocabulary, over what one person moves "
        "them by; 0: exact counts",
    )
    vocabulary_words: int = Field(
        default=100, ge=1, description="different words that a person counts for, under noise"
    )
    vocabulary_delta: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="chance that words of one person alone get in; 0: a tenth of people^-1.1",
    )
    vocabulary_seed: int | None = Field(
        default=None, description="of that noise, for simulations; None: from the operating system"
    )

    @property
    def release(self) -> Release | None:
        """How the vocabulary is chosen where it is private."""
        if not self.vocabulary_noise:
            return None
        return Release(
            self.vocabulary_noise, self.vocabulary_words, self.vocabulary_delta,
            self.vocabulary_seed,
        )  # fmt: skip

    @property
    def text(self) -> Tokenization:
        """How messages become sentences and words."""
        return Tokenization(**{name: getattr(self, name) for name in TEXT_OPTIONS})

    @model_validator(mode="before")
    @classmethod
    def _own_file(cls, values: Any) -> Any:
        # Done before validation so that a resolved configuration says name="own" itself.
        if isinstance(values, dict) and values.get("path") and values.get("name") is None:
            return {**values, "name": "own"}
        return values

    @model_validator(mode="after")
    def _columns_need_a_file(self) -> DataOptions:
        for key in ("user_column", "text_column", "encoding", "quoting"):
            value = getattr(self, key)
            if value != type(self).model_fields[key].default and self.path is None:
                raise FedsimError(
                    f"data.{key}='{value}' has no effect without data.path: "
                    "give the path of your file, or leave it out."
                )
        if not self.vocabulary_noise:
            for key in ("vocabulary_words", "vocabulary_delta", "vocabulary_seed"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise FedsimError(
                        f"data.{key} has no effect without data.vocabulary_noise: give noise, or "
                        "leave it out."
                    )
        elif self.word_users is not None:
            raise FedsimError(
                "data.word_users has no effect with data.vocabulary_noise, whose threshold takes "
                "its place: leave out one of the two."
            )
        if self.name == "own" and self.path is None:
            raise FedsimError("data.name='own' needs data.path: the path of your file.")
        return self


class PretrainOptions(Options):
    """A first corpus that the server trains on by itself, before the federated rounds.

    Its words are encoded in the vocabulary of the run's own corpus; what is not in it is unknown.
    """

    name: str = Field(
        default="", description="data set, or the path of a recipe .toml; empty pretrains nothing"
    )
    path: str | None = Field(default=None, description="your own file, folder or corpus directory")
    user_column: str = Field(default="user", description="column that says who wrote a row")
    text_column: str = Field(default="text", description="column with the text")
    encoding: Encoding = Field(default=None, description=_ENCODING)
    quoting: Quoting | None = Field(default=None, description=_QUOTING)
    cap_words: int | None = Field(default=None, ge=1, description="words kept of each user")
    min_words: int | None = Field(default=None, ge=1, description="users with fewer are dropped")
    other_people: bool = Field(
        default=False,
        description="whoever has one name in both corpora is two people: you say so, and the "
        "privacy statement repeats it",
    )
    epochs: int = Field(
        default=3, ge=0, description="0 measures the first corpus without training: a control"
    )
    lr: float = Field(default=0.003, gt=0)
    batch_size: int = Field(default=64, ge=1, description="sequences")
    canaries: int = Field(default=0, ge=0, description="random sentences put into the first corpus")
    repeats: int = Field(default=10, ge=1, description="copies of each of them")
    sentences: int = Field(
        default=1000, ge=1, description="of the first corpus that are tried for extraction"
    )

    @model_validator(mode="before")
    @classmethod
    def _own_file(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("path") and not values.get("name"):
            return {**values, "name": "own"}
        return values

    def like(self, own: DataOptions) -> DataOptions:
        """The first corpus in the form of the section `data`; its text is cut as the run's own."""
        return DataOptions(
            **{name: getattr(own, name) for name in TEXT_OPTIONS},
            segment=own.segment,
            name=self.name,
            path=self.path,
            user_column=self.user_column,
            text_column=self.text_column,
            encoding=self.encoding,
            quoting=self.quoting,
            cap_words=self.cap_words,
            min_words=self.min_words,
        )
