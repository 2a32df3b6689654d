"""Gaussian noise rounded to whole numbers, drawn without error.

A sum of clipped updates is made of integers (`fedsim.updates`). For an integer s and a real
Gaussian g, round(s + g) = s + round(g): adding rounded noise is the Gaussian mechanism followed by
a rounding that looks at nothing else, so that every guarantee of the Gaussian mechanism holds as it
is, and the released sum lies on the same grid whoever took part. Floating-point noise has no such
guarantee: single coordinates give a user away (Mironov 2012; Casacuberta et al. 2022).

The draw has to be exact too. |g| / deviation is k + x with a whole k and x in [0, 1): both are
proposed and kept with the right chance, much as in Karney 2016. Random numbers are known to 64
bits; where these decide neither a comparison nor a rounding, more bits are drawn until they do.
"""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np

from fedsim.privacy.key_stream import KeyStream

LARGEST_DEVIATION = 2**48
_BLOCK = 1 << 14  # outputs made together: what stays in a core's cache
_BITS = 64  # of a random word
_WHOLE = 15  # k < 15; a Gaussian goes further with a chance of 2^-166
_DOUBT = 2.0**-44  # how near to its chance a word is decided with more bits; floats err by 2^-50


def rounded_gaussian(stream: KeyStream, size: int, deviation: int) -> np.ndarray:
    """round(g) for independent Gaussians g of that deviation, int64 (size,).

    `deviation` is a whole number from 1 to `LARGEST_DEVIATION`. Equal streams give equal numbers
    on every machine.
    """
    if not 1 <= deviation <= LARGEST_DEVIATION:
        raise ValueError(f"deviation must be between 1 and 2^48, not {deviation}")
    out = np.empty(size, np.int64)
    done = 0
    while done < size:
        wanted = min(size - done, _BLOCK)
        made = _proposed(stream, wanted + wanted // 2 + 32, deviation)[:wanted]
        out[done : done + len(made)] = made
        done += len(made)
    return out


def _weights() -> tuple[list[int], list[Decimal]]:
    """Of each k: how many of 2^63 words propose it, and ln of the chance to keep one at x = 0."""
    with localcontext() as context:
        context.prec = 60
        ideal = [(Decimal(-k * k) / 2).exp() for k in range(_WHOLE)]
        unit = (2**63 - _WHOLE) / sum(ideal, Decimal(0))
        counts = [int(unit * weight) + 1 for weight in ideal]
        least = min(count / weight for count, weight in zip(counts, ideal, strict=True))
        chances = [least * w / count for w, count in zip(ideal, counts, strict=True)]
        return counts, [chance.ln() for chance in chances]


_COUNTS, _LOGS = _weights()
_UP_TO = np.cumsum(np.array(_COUNTS, np.uint64))
_LOG = np.array([float(log) for log in _LOGS] + [-np.inf])  # what proposes nothing is not kept


def _proposed(stream: KeyStream, tried: int, deviation: int) -> np.ndarray:
    """The numbers that are kept of so many proposals: 71 of 100."""
    first, x, u = stream.words(tried), stream.words(tried), stream.words(tried)
    k = np.searchsorted(_UP_TO, first >> np.uint64(1), side="right")
    real = x * 2.0**-_BITS
    gap = np.exp(_LOG[k] - real * (k + 0.5 * real))
    gap -= u * 2.0**-_BITS
    kept = gap > 0
    refined: dict[int, tuple[int, int]] = {}
    for i in np.flatnonzero(np.abs(gap) < _DOUBT).tolist():
        kept[i], refined[i] = decided(int(k[i]), int(x[i]), int(u[i]), stream)
    numbers = _rounded(k, x, deviation)
    for i in np.flatnonzero(_undecided(x, deviation)).tolist():
        numbers[i] = rounded(int(k[i]), *refined.get(i, (int(x[i]), _BITS)), deviation, stream)
    return np.where(first & np.uint64(1), -numbers, numbers)[kept]


def decided(
    k: int, x: int, u: int, stream: KeyStream, bits: int = _BITS
) -> tuple[bool, tuple[int, int]]:
    """Whether u is below the chance to keep k + x, and x with the bits that this took.

    x and u are known to `bits` bits. A k that stands for no proposal is not kept.
    """
    while k < _WHOLE:
        with localcontext() as context:
            context.prec = 40 + bits // 3
            least, most = _chance(k, Decimal(x + 1) / 2**bits), _chance(k, Decimal(x) / 2**bits)
            margin = Decimal(10) ** (-20 - bits // 3)  # of the arithmetic itself
            if u + 1 <= (least - margin) * 2**bits:
                return True, (x, bits)
            if u >= (most + margin) * 2**bits:
                break
        x, u = (x << _BITS) | stream.bits(_BITS), (u << _BITS) | stream.bits(_BITS)
        bits += _BITS
    return False, (x, bits)


def _chance(k: int, x: Decimal) -> Decimal:
    return (_LOGS[k] - x * (2 * k + x) / 2).exp()


def rounded(k: int, x: int, bits: int, deviation: int, stream: KeyStream) -> int:
    """deviation (k + x) rounded to the nearest whole number, with more bits of x where it needs."""
    while True:
        half = 1 << (bits - 1)
        least = deviation * ((k << bits) + x) + half
        if least >> bits == (least + deviation - 1) >> bits:  # for all further bits
            return least >> bits
        x, bits = (x << _BITS) | stream.bits(_BITS), bits + _BITS


def _rounded(k: np.ndarray, x: np.ndarray, deviation: int) -> np.ndarray:
    """The same with the bits that are there, which is right but for those `_undecided`."""
    whole, rest = _times(x, deviation)
    return deviation * k + (whole + (rest >> np.uint64(63))).astype(np.int64)


def _undecided(x: np.ndarray, deviation: int) -> np.ndarray:
    """Whether further bits of x could carry deviation x over a half."""
    rest = _times(x, deviation)[1]
    below = np.uint64(2**63)
    return (rest < below) & (rest + np.uint64(deviation) > below)


def _times(x: np.ndarray, deviation: int) -> tuple[np.ndarray, np.ndarray]:
    """deviation x / 2^64 exactly: its whole part and the 64 bits behind it."""
    d, limb, low = np.uint64(deviation), np.uint64(16), np.uint64(0xFFFF)
    if deviation < 2**32:
        limb, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    rest = np.zeros_like(x)
    carry, place = np.zeros_like(x), np.uint64(0)
    while place < 64:
        carry = d * ((x >> place) & low) + carry
        rest |= (carry & low) << place
        carry >>= limb
        place += limb
    return carry, rest
