"""Every reader, on anything: what was written is read back, and damage is refused or harmless."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import unicodedata
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from foreign_files import FORMATS, People, files_of, rows
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fedsim.data.readers import READERS, Reader
from fedsim.data.readers.names import tidied
from fedsim.errors import FedsimError

quick = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Anything but NUL and lone surrogates, which are errors; of every script, also right-to-left.
chars = st.characters(exclude_characters="\0", exclude_categories=("Cs",))


# In the one form that is read of the several that look the same.
def anyone_of(letters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Names of these letters."""
    return st.text(letters, min_size=1, max_size=8).map(lambda name: tidied(name)[0] or "x")


anyone = anyone_of(chars)
anything = st.text(chars, min_size=1, max_size=30)
# XML has no control characters and folds line ends; the others end a line of IRC or an address.
plain = st.characters(exclude_characters="<>", exclude_categories=("Cs", "Cc", "Cn", "Zl", "Zp"))
line = st.text(plain, min_size=1, max_size=30).filter(lambda text: ":" not in text)
one_line = st.characters(exclude_characters="\0\r\n\t", exclude_categories=("Cs",))
western = st.characters(codec="cp1252", exclude_characters="\0")
PEOPLE = {
    "irc": (
        anyone_of(plain).filter(
            lambda name: name == name.lower() and name[0] not in "~&@%+!" and name[-1] != "_"
        ),
        line.filter(lambda text: "," not in text and not text.startswith(" ")),
    ),
    "sms": (anyone_of(plain), line),
    "unquoted": (
        anyone_of(one_line),
        st.text(one_line, min_size=1, max_size=30),
    ),
    "windows-1252": (
        anyone_of(western),
        st.text(western, min_size=1, max_size=30),
    ),
    "leaf flat": (
        anyone,
        st.text(chars, min_size=81, max_size=130).filter(lambda t: t[:80].strip()),
    ),
    "leaf lines": (anyone, anything.filter(lambda text: "\n" not in text)),
    "leaf comments": (
        anyone,
        st.lists(anything.map("".join), min_size=1, max_size=25)
        .map(lambda texts: " ".join(" ".join(texts).split()))
        .filter(bool),
    ),
    # "." and "/" mean a place in HDF5.
    "tff hdf5": (anyone.filter(lambda name: "/" not in name and name.strip(".")), anything),
}
PEOPLE["sms zip"] = PEOPLE["sms"]
# What stands for media begins with a mark, or is a file's name and what became of it.
spoken = line.map(str.strip).filter(
    lambda text: (
        text not in ("", "null") and "(" not in text and unicodedata.category(text[0]) != "Cf"
    )
)
PEOPLE["iphone"] = PEOPLE["android"] = (
    anyone_of(plain).map(lambda name: name.replace(":", "") or "x"),
    st.lists(spoken, min_size=1, max_size=3).map("\n".join),
)
spaced = anything.filter(str.strip)
PEOPLE["telegram"] = PEOPLE["telegram all"] = PEOPLE["discord"] = (
    anyone.filter(lambda name: not name.startswith("channel")), spaced)  # fmt: skip
xml = st.characters(exclude_characters="\ufffe\uffff", exclude_categories=("Cs", "Cc"))
PEOPLE["sms backup"] = (
    anyone_of(xml).filter(lambda name: name not in ("null", "(Unknown)")),
    st.text(xml, min_size=1, max_size=30).filter(lambda text: text.strip() and text != "null"),
)


@st.composite
def federations(draw: st.DrawFn, kind: str) -> People:
    """Some people and their texts, such as the format can say."""
    who, what = PEOPLE.get(kind, (anyone, anything))
    most = 1 if kind == "leaf flat" else 5
    return draw(st.dictionaries(who, st.lists(what, min_size=1, max_size=most), min_size=1,
                                max_size=4))  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
@settings(quick, max_examples=30)
@given(data=st.data())
def test_what_people_wrote_is_read_back(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    people = data.draw(federations(kind))
    if kind == "hive":
        shutil.rmtree(tmp_path / "parts", ignore_errors=True)
    FORMATS[kind].write(tmp_path / FORMATS[kind].name, people)
    found = list(reader_of(kind).read(files_of(tmp_path / FORMATS[kind].name)))
    # HDF5 keeps its members by name, and so does a folder.
    key = (lambda row: row[0]) if kind in ("tff hdf5", "hive") else (lambda row: 0)
    assert sorted(found, key=key) == sorted(rows(people), key=key)


def reader_of(kind: str) -> Reader:
    """What reads the format, with its options."""
    return READERS[FORMATS[kind].reader].model_validate(FORMATS[kind].options or {})


def harmless(kind: str, path: Path) -> str | None:
    """None if the files give messages, else the one sentence of a FedsimError that names a file."""
    files = files_of(path)
    try:
        for user, text in islice(reader_of(kind).read(files), 5_000):
            assert isinstance(user, str)
            assert user.strip()
            assert isinstance(text, str)
            for said in (user, text):
                assert "\0" not in said
                said.encode()
    except FedsimError as error:
        said = str(error)
        assert any(str(file) in said for file in [path, *files]), said
        assert said.isprintable()
        assert len(said) < 2_100
        assert said.endswith((".", ")", "?")) or "choose one of" in said, said
        return said
    return None


GOOD: People = {
    "ann": ["see you at eight then, if it is not too late for you and for all of the others there"],
    "bob": [
        "no, nine: the train does not leave before the half hour on a day like this one, sorry"
    ],
    "שרה": [
        "אני באה 今天准时回来吗 the rest of this line is here to fill a window of eighty characters"
    ],
}


@cache
def good_bytes(kind: str) -> dict[str, bytes]:
    """The content of each file of a sound set."""
    _, name, write, _ = FORMATS[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, {"ann": GOOD["ann"]} if kind == "windows-1252" else GOOD)
        return {str(file.relative_to(folder)): file.read_bytes() for file in files_of(path)}


def written(kind: str, folder: Path) -> Path:
    """A sound set below the folder: its file, or its own folder."""
    for name, content in good_bytes(kind).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder / FORMATS[kind].name


def quoteful(letters: str) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Rows of three people whose texts are of these letters, quotes among them."""
    texts = st.text(st.sampled_from(letters), max_size=6).filter(re.compile("[ab]").search)
    return st.lists(st.tuples(st.sampled_from(["ann", "bob", "cat"]), texts), min_size=1,
                    max_size=12)  # fmt: skip


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
@settings(quick, max_examples=300)
@given(found=quoteful('ab"\\'))
@example(found=[("ann", '"a'), ("bob", "b"), ("cat", 'a"'), ("ann", "b")])
@example(found=[("ann", '"a'), ("bob", 'b"')])
def test_no_quote_gives_one_persons_text_to_another(
    found: list[tuple[str, str]], delimiter: str, tmp_path: Path
) -> None:
    """A file without quoting is read as it is, or refused: its lines are never merged."""
    lines = [delimiter.join(row) for row in [("user", "text"), *found]]
    file = tmp_path / "a.csv"
    file.write_text("\n".join(lines))
    assert list(READERS["table"].model_validate({"quoting": "none"}).read([file])) == found
    try:
        read = list(READERS["table"]().read([file]))
    except FedsimError as refusal:
        read, said = found, str(refusal)
    else:
        said = "data.quoting="
    assert "data.quoting=" in said
    letters = re.compile("[abx]")
    expected = [(user, letters.findall(text)) for user, text in found]
    assert [(user, letters.findall(text)) for user, text in read] == expected


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
@settings(quick, max_examples=300)
@given(data=st.data())
@example(data=None)
def test_nobody_with_rows_elsewhere_is_merged(
    data: st.DataObject | None, delimiter: str, tmp_path: Path
) -> None:
    """Texts with delimiters and spaces, quotes anywhere: what is read as one message of several
    lines holds no row of anybody who has written another, and with tabs no row at all."""
    found = (
        [("ann", '"a'), ("bob", f"a{delimiter}b"), ("cat", " b"), ("bob", 'b"'), ("cat", "a")]
        if data is None
        else data.draw(quoteful(f'ab" {delimiter}'))
    )
    lines = [delimiter.join(row) for row in [("user", "text"), *found]]
    file = tmp_path / "a.csv"
    file.write_text("\n".join(lines))
    try:
        read = list(READERS["table"]().read([file]))
    except FedsimError:
        return
    users = {user for user, _ in read}
    for _, text in read:
        for line in text.split("\n")[1:]:
            cells = [cell.strip('" ') for cell in line.split(delimiter)]
            is_row = len(cells) == 2 and all(cells)
            assert not (is_row and (delimiter == "\t" or cells[0] in users)), read


@pytest.mark.parametrize("kind", FORMATS)
@settings(quick, max_examples=60)
@given(data=st.data())
def test_damage_is_refused_or_harmless(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    file = data.draw(st.sampled_from(files_of(path)))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        assume(content)
        at = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.sampled_from([1, 1, 2, 8, 100]))
        match data.draw(st.sampled_from(["set", "cut", "drop", "put", "repeat"])):
            case "set":
                content[at : at + length] = data.draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del content[at:]
            case "drop":
                del content[at : at + length]
            case "put":
                awkward = [
                    b"\0",
                    b"\xff",
                    b"\xed\xa0\x80",
                    b"\r",
                    b'"',
                    b"{",
                    b"9" * 5000,
                    b"[" * 9,
                ]
                content[at:at] = data.draw(st.sampled_from(awkward))
            case "repeat":
                content[at:at] = content[at : at + length]
    file.write_bytes(content)
    harmless(kind, path)


@pytest.mark.parametrize("kind", FORMATS)
@settings(quick, max_examples=40)
@given(
    content=st.binary(max_size=200) | st.text(chars, max_size=90).map(lambda s: s.encode("utf-16"))
)
def test_arbitrary_bytes_are_refused_or_harmless(kind: str, content: bytes, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    files_of(path)[0].write_bytes(content)
    harmless(kind, path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["users", "num_samples", "user_data", "x", "y", "a", "messages", "sender",
                         "text", "user", "_data_files", "filename"]), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "chitchat", "leaf tweets", "huggingface"])
@settings(quick, max_examples=60)
@given(value=json_values)
def test_json_of_any_shape_is_refused_or_harmless(kind: str, value: object, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    file = path / "state.json" if path.is_dir() else path
    file.write_text(json.dumps(value))
    harmless(kind, path)
