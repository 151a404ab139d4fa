"""Lines of text: ``t x y p``. Importing this module imports numba."""

from __future__ import annotations

import numba
import numpy as np

from spikenet.kernels.events.words import byte

_NEWLINE, _RETURN, _SPACE, _TAB, _POINT, _MINUS, _ZERO = 10, 13, 32, 9, 46, 45, 48
LONGEST_LINE = 1 << 12  # bytes
_WHOLE = 12  # digits of whole seconds, so that microseconds fit int64


@numba.njit(cache=True)
def _skip_blanks(text: np.ndarray, i: int) -> int:
    while i < len(text) and (text[i] == _SPACE or text[i] == _TAB or text[i] == _RETURN):
        i += 1
    return i


@numba.njit(cache=True)
def _whole(text: np.ndarray, i: int, most: int) -> tuple[int, int]:
    """A number of 1 to ``most`` digits and the place behind it; the place is -1 where there is none."""
    value, begin = 0, i
    while i < len(text):
        digit = byte(text, i) - _ZERO
        if digit < 0 or digit > 9:
            break
        value = 10 * value + digit
        i += 1
        if i - begin > most:
            return 0, -1
    return value, (i if i > begin else -1)


@numba.njit(cache=True)
def _seconds(text: np.ndarray, i: int) -> tuple[int, int]:
    """Decimal seconds as whole microseconds, rounded half up in size, and the place behind them."""
    negative = i < len(text) and text[i] == _MINUS
    value, i = _whole(text, i + negative, _WHOLE)
    if i < 0:
        return 0, -1
    value *= 1_000_000
    if i < len(text) and text[i] == _POINT:
        i += 1
        unit, first = 100_000, i
        while i < len(text):
            digit = byte(text, i) - _ZERO
            if digit < 0 or digit > 9:
                break
            value += digit * unit
            if i - first == 6 and digit >= 5:
                value += 1
            unit //= 10
            i += 1
    return -value if negative else value, i


@numba.njit(cache=True)
def _blank_then(text: np.ndarray, i: int) -> int:
    """The place of the next word, -1 unless blanks lead there."""
    if i < 0 or i >= len(text) or (text[i] != _SPACE and text[i] != _TAB):
        return -1
    return _skip_blanks(text, i)


@numba.njit(cache=True)
def decode_lines(text: np.ndarray, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> tuple[int, int, int]:
    """Decode whole lines; blank ones are passed over, those of more than `LONGEST_LINE` bytes refused.

    Args:
        text: uint8, read only.
        t, x, y, p: the columns, with room for an event every 8 bytes (and one more, for a last line without end).

    Returns:
        The number of events, of lines that break the format, and where the first of those begins.
    """
    i, line, count, bad, first = 0, 0, 0, 0, -1
    size = len(text)
    while True:
        i = _skip_blanks(text, i)
        if i == size:
            return count, bad, first
        if text[i] == _NEWLINE:
            i += 1
            line = i
            continue
        time, i = _seconds(text, i)
        i = _blank_then(text, i)
        column = row = polarity = 0
        if i >= 0:
            column, i = _whole(text, i, 9)
            i = _blank_then(text, i)
        if i >= 0:
            row, i = _whole(text, i, 9)
            i = _blank_then(text, i)
        if i >= 0:
            polarity, i = _whole(text, i, 2)
        if i >= 0:
            i = _skip_blanks(text, i)
            if (i < size and text[i] != _NEWLINE) or i - line > LONGEST_LINE:
                i = -1
        if i >= 0:
            t[count], x[count], y[count], p[count] = time, column, row, polarity
            count += 1
            continue
        bad += 1
        first = line if first < 0 else first
        i = line
        while i < size and text[i] != _NEWLINE:
            i += 1
