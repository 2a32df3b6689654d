"""JSON of any size, value by value: what one wants of it in bounded memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fedsim.data.readers.encodings import UTF8, by_mark, control_at, not_iso, not_utf8
from fedsim.data.readers.json_text import as_object, json_fault
from fedsim.data.readers.lines import LONGEST_BYTES
from fedsim.errors import FedsimError

_BLOCK = 1 << 16
# An error this near to the end of what was read may be one of the cut, such as `tru`.
_NEAR = 16
_SPACE = " \t\n\r"


class JsonStream:
    """A JSON text that is walked from its start to its end, once.

    Where a value begins, call exactly one of `value` (the whole of it), `elements` (of an array,
    each of which has to be consumed in turn), `entries` (the keys of an object, likewise) and
    `skip`. A single value may have up to 16 Mi characters.

    Raises FedsimError naming file and line for what is no JSON.
    """

    def __init__(self, stream: IO[bytes], file: Path, encoding: str | None = None) -> None:
        self._stream, self._file = stream, file
        self._text, self._at, self._line = "", 0, 1
        self._decoder = json.JSONDecoder(object_pairs_hook=as_object)
        start = stream.read(_BLOCK)
        named = encoding if encoding != UTF8 else None
        self._codec = codecs.getincrementaldecoder(named or by_mark(start) or f"{UTF8}-sig")()
        self._waiting, self._ended = start, False
        self._named = named

    def begins(self) -> str:
        """The next character that is no space, without taking it; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """The value that begins here."""
        self.begins()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - _NEAR or error.msg.startswith("Unterminated")
                if not cut or not self._more():
                    raise self._refusal(error) from error
            except (ValueError, RecursionError) as error:
                raise self._refusal(error) from error
            else:
                if end < len(self._text) or not self._more():  # a number may go on
                    self._at = end
                    return value

    def entries(self) -> Iterator[str]:
        """The keys of the object that begins here; before the next, consume the value."""
        self._take("{")
        if self.begins() == "}":
            self._at += 1
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise self._unexpected("a key in double quotes")
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def elements(self) -> Iterator[None]:
        """Once for each element of the array that begins here; before the next, consume it."""
        self._take("[")
        if self.begins() == "]":
            self._at += 1
            return
        while True:
            yield
            if self._take(",]") == "]":
                return

    def skip(self) -> None:
        """Pass over the value that begins here, of whatever size."""
        try:
            begins = self.begins()
            if begins == "{":
                for _ in self.entries():
                    self.skip()
            elif begins == "[":
                for _ in self.elements():
                    self.skip()
            else:
                self.value()
        except RecursionError as error:
            raise self._refusal(error) from error

    def end(self) -> None:
        """FedsimError where anything but space follows."""
        if self.begins():
            raise self._unexpected("the end of the file")

    def _take(self, one_of: str) -> str:
        found = self.begins()
        if not found or found not in one_of:
            raise self._unexpected(" or ".join(f"'{char}'" for char in one_of))
        self._at += 1
        return found

    def _more(self) -> bool:
        """Read on; whether there was anything. What has been walked over is forgotten."""
        if self._ended:
            return False
        rest = len(self._text) - self._at
        if rest > LONGEST_BYTES:
            raise FedsimError(
                f"{self._file}, line {self._here()}: a value there has more than "
                f"{LONGEST_BYTES >> 20} Mi characters, which no message has: is this the file?"
            )
        self._line = self._here()
        try:
            # As much again as is there, so that a long value is not tried too often.
            raw = self._waiting or self._stream.read(max(_BLOCK, rest))
            self._waiting, self._ended = b"", not raw
            part = self._codec.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            raise self._not_text(error.encoding, bytes(error.object), error.start) from error
        if self._named and (at := control_at(part, self._named)) is not None:
            raise self._not_text(self._named, raw, at)
        self._text, self._at = self._text[self._at :] + part, 0
        return bool(part) or self._more()

    def _not_text(self, encoding: str, block: bytes, at: int) -> FedsimError:
        """What to say about the line of the bytes that are not of the encoding."""
        line = self._here() + self._text.count("\n", self._at) + block.count(b"\n", 0, at)
        start = block.rfind(b"\n", 0, at) + 1
        end = block.find(b"\n", at) % (len(block) + 1)
        place = f"{self._file}, line {line}"
        if encoding == UTF8:
            return not_utf8(block[start:end], at - start, place)
        if encoding.startswith("iso8859"):  # an error of the codec calls these "charmap"
            return not_iso(block[start:end], at - start, encoding, place)
        return FedsimError(f"{place}: is not text in {encoding}: name the right encoding.")

    def _here(self) -> int:
        return self._line + self._text.count("\n", 0, self._at)

    def _unexpected(self, wanted: str) -> FedsimError:
        found = self.begins()
        instead = f"'{found}'" if found else "the end of the file"
        return FedsimError(
            f"{self._file}, line {self._here()}: is not valid JSON ({wanted} is missing before "
            f"{instead}): get or write the file again."
        )

    def _refusal(self, error: Exception) -> FedsimError:
        line, said = self._here(), json_fault(error)
        if isinstance(error, json.JSONDecodeError):  # whose column is that of what was read last
            line, said = self._line + self._text.count("\n", 0, error.pos), error.msg
        return FedsimError(
            f"{self._file}, line {line}: is not valid JSON ({said}): get or write the file again."
        )
