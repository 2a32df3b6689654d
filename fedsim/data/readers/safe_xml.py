"""XML read element by element, without entities that a file declares itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat


def xml_events(parts: Iterable[bytes]) -> Iterator[tuple[str, Element]]:
    """("start" or "end", element), as `ElementTree.iterparse` yields them.

    An entity may stand for a billion laughs or another file, and no export has one: its
    declaration is a ValueError, as is text that is no XML.
    """
    builder, found = TreeBuilder(), list[tuple[str, Element]]()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, attributes: found.append(
        ("start", builder.start(tag, attributes))
    )
    parser.EndElementHandler = lambda tag: found.append(("end", builder.end(tag)))
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse
    try:
        for part in parts:
            parser.Parse(part, False)
            yield from found
            found.clear()
        parser.Parse(b"", True)
    except (expat.ExpatError, LookupError) as error:  # LookupError: an encoding that there is not
        raise ValueError(str(error)) from error
    yield from found


def _refuse(name: str, *_: object) -> None:
    raise ValueError(f"it declares an entity of its own, '{name[:60]}', which is not read")
