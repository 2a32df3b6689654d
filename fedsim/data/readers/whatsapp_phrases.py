"""What WhatsApp writes in place of a message, in some of the languages of its users' phones."""

from __future__ import annotations

import re

MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
OWN_MARK = "\u200e"  # iPhones put it before what WhatsApp wrote itself
SHORT = 12  # words that WhatsApp writes in place of a message, in any language

_OMITTED = (
    *("omit", "omis", "omess", "weggelat", "weggelassen", "ausgeschlossen", "utelämn", "ocult"),
    *("no incluid", "não revelad", "dahil edilm", "pominięt", "disertakan"),
    *("медиа", "وسائط", "מדיה", "メディア", "미디어", "媒体", "媒體"),
    *("attached:", "anhang:", "adjunto:", "jointe", "allegato:", "anexad", "bijlage:"),
)
_ATTACHED = (
    *("file attached", "datei angehängt", "archivo adjunto", "fichier joint", "file allegato"),
    *("arquivo anexado", "ficheiro anexado", "bestand bijgevoegd", "bifogad fil", "dosya ekli"),
    *("plik dołączony", "file terlampir", "файл добавлен"),
)
_DELETED = frozenset(
    (
        *("This message was deleted", "You deleted this message"),
        *("Diese Nachricht wurde gelöscht", "Du hast diese Nachricht gelöscht"),
        *("Se eliminó este mensaje", "Eliminaste este mensaje"),
        *("Ce message a été supprimé", "Vous avez supprimé ce message"),
        *("Questo messaggio è stato eliminato", "Hai eliminato questo messaggio"),
        *("Mensagem apagada", "Esta mensagem foi apagada", "Dit bericht is verwijderd"),
    )
)
# `<Media omitted>`; an iPhone's `<attached: 0001-PHOTO.jpg>`.
_STANDS_FOR = re.compile(rf"[{MARKS}]*<[^<>\n]*(?:{'|'.join(_OMITTED)})[^<>\n]*>\s*", re.IGNORECASE)
# The name of a file and what became of it, below which its caption stands.
FILE = re.compile(
    rf"[{MARKS}]*(?:[A-Z]{{3}}-\d{{8}}-WA\d+\.\w{{2,4}} \([^()\n]+\)"
    rf"|[^\n]+\.\w{{2,5}} \((?:{'|'.join(_ATTACHED)})\))[ \t]*(?:\n|$)",
    re.IGNORECASE,
)
# A sentence of WhatsApp's with a colon in it, of which the first part is no name.
SENTENCE = re.compile(
    '\\S+ .*\\S ["\u201c\u201d\u201e\u00ab]|.* (?:changed|added|removed|created|invited|pinned'
    "|joined|left|updated|started|turned (?:on|off)) "
)
MEDIA = "that stand for media, calls or deleted messages"
_MARKED = "that begin with the mark of WhatsApp's own words (U+200E)"
_NULL = "that are 'null', as WhatsApp writes what it cannot show"


def stands_for(text: str) -> str | None:
    """Why a text is not what somebody wrote; None where somebody did."""
    bare = text.strip().strip(MARKS)
    if _STANDS_FOR.fullmatch(text) or bare.rstrip(".") in _DELETED:
        return MEDIA
    if text.startswith(OWN_MARK) and (
        len(bare.split()) <= SHORT or "WhatsApp" in bare or f"\n{OWN_MARK}" in bare
    ):
        return _MARKED
    return _NULL if bare == "null" else None
