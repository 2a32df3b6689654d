"""Text put together again from windows that slide over it, each with the character that follows."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence


def joined(windows: Sequence[tuple[str, str]]) -> list[str]:
    """The texts that the pairs (window, next character) were cut from.

    A window that moves on by one character continues the text, wherever it stands in the list
    (samplers shuffle). Where windows are left out, the rest is joined if half a window overlaps;
    otherwise a new text starts. Spaces that fill the first window pad a line: they and the line
    end are dropped.
    """
    waiting: dict[str, deque[int]] = defaultdict(deque)
    for index, (window, _) in enumerate(windows):
        waiting[window].append(index)
    reached = {window[1:] + following for window, following in windows}
    used = [False] * len(windows)
    heads = [i for i, (window, _) in enumerate(windows) if window not in reached]
    texts: list[str] = []
    # After the heads only circles are left, and texts that begin like the inside of another.
    for start in (*heads, *range(len(windows))):
        if not used[start]:
            window = windows[start][0]
            tail = _follow(windows, start, waiting, used)
            overlap = _overlap(texts[-1], window) if texts else 0
            if overlap:
                texts[-1] += window[overlap:] + tail
            else:
                texts.append(window + tail if window.strip(" ") else tail.removesuffix("\n"))
    return texts


def _follow(
    windows: Sequence[tuple[str, str]],
    index: int,
    waiting: dict[str, deque[int]],
    used: list[bool],
) -> str:
    """What follows the window `index`, up to a window that is not there; marks what it uses."""
    out = []
    while True:
        used[index] = True
        window, following = windows[index]
        out.append(following)
        sought = window[1:] + following
        if index + 1 < len(windows) and not used[index + 1] and windows[index + 1][0] == sought:
            index += 1
            continue
        candidates = waiting.get(sought, deque())
        while candidates and used[candidates[0]]:
            candidates.popleft()
        if not candidates:
            return "".join(out)
        index = candidates[0]


def _overlap(text: str, window: str) -> int:
    """How many characters the text's end and the window's start share; 0 for less than half."""
    for length in range(len(window) - 1, max(1, len(window) // 2) - 1, -1):
        if text.endswith(window[:length]):
            return length
    return 0
