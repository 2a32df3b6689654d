"""Emoji as a keyboard has them: one key each, however many characters it takes to write one.

The tables follow Unicode's emoji-data.txt (17.0) for what existed before the blocks of pictographs,
and take these blocks (U+1F000 to U+1FAFF) as a whole, so that emoji of later versions are emoji.
"""

from __future__ import annotations

import re

_ZWJ, _STYLE = "\u200d", "\ufe0f"  # joins emoji to one; asks for the colorful form
_TONES = "\U0001f3fb-\U0001f3ff"
_FLAGS = "\U0001f1e6-\U0001f1ff"
# Pictographs that older standards had as signs of text.
_SIGNS = (
    "\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe"
    "\u2600-\u2604\u260e\u2611\u2614\u2615\u2618\u261d\u2620\u2622\u2623\u2626\u262a\u262e\u262f"
    "\u2638-\u263a\u2640\u2642\u2648-\u2653\u265f\u2660\u2663\u2665\u2666\u2668\u267b\u267e\u267f"
    "\u2692-\u2697\u2699\u269b\u269c\u26a0\u26a1\u26a7\u26aa\u26ab\u26b0\u26b1\u26bd\u26be\u26c4"
    "\u26c5\u26c8\u26ce\u26cf\u26d1\u26d3\u26d4\u26e9\u26ea\u26f0-\u26f5\u26f7-\u26fa\u26fd\u2702"
    "\u2705\u2708-\u270d\u270f\u2712\u2714\u2716\u271d\u2721\u2728\u2733\u2734\u2744\u2747\u274c"
    "\u274e\u2753-\u2755\u2757\u2763\u2764\u2795-\u2797\u27a1\u27b0\u27bf\u2934\u2935\u2b05-\u2b07"
    "\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299"
)
# Those that are signs of text unless the style mark follows.
_MARKED = "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa"
# Emoji that are shown as text without the style mark; all others need none.
_TEXT = re.compile(
    "[\u2328\u23cf\u23ed-\u23ef\u23f1\u23f2\u23f8-\u23fa\u24c2\u25aa\u25ab\u25b6\u25c0\u25fb\u25fc"
    "\u2600-\u2604\u260e\u2611\u2618\u261d\u2620\u2622\u2623\u2626\u262a\u262e\u262f\u2638-\u263a"
    "\u2640\u2642\u265f\u2660\u2663\u2665\u2666\u2668\u267b\u267e\u2692\u2694-\u2697\u2699\u269b"
    "\u269c\u26a0\u26a7\u26b0\u26b1\u26c8\u26cf\u26d1\u26d3\u26e9\u26f0\u26f1\u26f4\u26f7-\u26f9"
    "\u2702\u2708\u2709\u270c\u270d\u270f\u2712\u2714\u2716\u271d\u2721\u2733\u2734\u2744\u2747"
    "\u2763\u2764\u27a1\u2934\u2935\u2b05-\u2b07\u3030\u303d\u3297\u3299"
    + _MARKED
    + "\U0001f170\U0001f171\U0001f17e\U0001f17f\U0001f202\U0001f237\U0001f321\U0001f324-\U0001f32c"
    "\U0001f336\U0001f37d\U0001f396\U0001f397\U0001f399-\U0001f39b\U0001f39e\U0001f39f"
    "\U0001f3cb-\U0001f3ce\U0001f3d4-\U0001f3df\U0001f3f3\U0001f3f5\U0001f3f7\U0001f43f\U0001f441"
    "\U0001f4fd\U0001f549\U0001f54a\U0001f56f\U0001f570\U0001f573-\U0001f579\U0001f587"
    "\U0001f58a-\U0001f58d\U0001f590\U0001f5a5\U0001f5a8\U0001f5b1\U0001f5b2\U0001f5bc"
    "\U0001f5c2-\U0001f5c4\U0001f5d1-\U0001f5d3\U0001f5dc-\U0001f5de\U0001f5e1\U0001f5e3\U0001f5e8"
    "\U0001f5ef\U0001f5f3\U0001f5fa\U0001f6cb\U0001f6cd-\U0001f6cf\U0001f6e0-\U0001f6e5\U0001f6e9"
    "\U0001f6f0\U0001f6f3]"
)
_ONE = (
    f"(?:[{_SIGNS}\U0001f000-\U0001f1e5\U0001f200-\U0001faff][\ufe0e\ufe0f]?|[{_MARKED}]{_STYLE})"
    f"[{_TONES}]?"
)
# A sequence is one emoji: a flag, a key, people and things joined, a region of a country.
EMOJI = (
    f"(?:[{_FLAGS}]{{1,2}}|[0-9#*]{_STYLE}?\u20e3"
    f"|{_ONE}(?:[\U000e0020-\U000e007e]+\U000e007f)?(?:{_ZWJ}(?:{_ONE}|[{_MARKED}]))*)"
)
_KEYCAP = "\u20e3"
_WHOLE = re.compile(EMOJI)


def is_emoji(word: str) -> bool:
    """Whether a word is one emoji."""
    return bool(word) and not word.isalnum() and _WHOLE.fullmatch(word) is not None


def qualified(emoji: str) -> str:
    """The emoji as keyboards write it ("fully qualified"): style marks where they are needed."""
    bare = re.sub("[\ufe0e\ufe0f]", "", emoji)
    if bare.endswith(_KEYCAP):
        return bare[0] + _STYLE + _KEYCAP
    out = []
    for place, sign in enumerate(bare):
        out.append(sign)
        toned = "\U0001f3fb" <= bare[place + 1 : place + 2] <= "\U0001f3ff"
        if not toned and _TEXT.match(sign):
            out.append(_STYLE)
    return "".join(out)
