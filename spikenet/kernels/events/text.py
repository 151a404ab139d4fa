"""Lines of text: ``t x y p``. Importing this module imports numba."""

from __future__ import annotations

import numba
import numpy as np

from spikenet.kernels.events.words import byte

LONGEST_LINE = 1 << 12  # bytes
_NEWLINE, _RETURN, _SPACE, _TAB, _POINT, _MINUS, _ZERO = 10, 13, 32, 9, 46, 45, 48
_DIGITS = (12, 9, 9, 2)  # of whole seconds, column, row and polarity: what surely fits the columns


@numba.njit(cache=True)
def decode_lines(text: np.ndarray, t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> tuple[int, int, int]:
    """Decode whole lines; blank ones are passed over, those of more than `LONGEST_LINE` bytes refused.

    Args:
        text: uint8, read only.
        t, x, y, p: the columns, with room for an event every 8 bytes (and one more, for a last line without end).

    Returns:
        The number of events, of lines that break the format, and where the first of those begins.
    """
    values = np.zeros(4, np.int64)
    i, count, bad, first = 0, 0, 0, -1
    size = len(text)
    while i < size:
        line, words = i, 0
        while words >= 0:
            code = byte(text, i) if i < size else _NEWLINE
            while code in (_SPACE, _TAB, _RETURN):
                i += 1
                code = byte(text, i) if i < size else _NEWLINE
            if code == _NEWLINE:
                break
            negative = code == _MINUS and words == 0
            i += negative
            value, begin = 0, i
            while i < size and 0 <= byte(text, i) - _ZERO <= 9:
                value = 10 * value + byte(text, i) - _ZERO
                i += 1
            if words == 4 or not 0 < i - begin <= _DIGITS[words]:
                words = -1
                break
            if words == 0:
                digits, up = 0, 0
                if i < size and byte(text, i) == _POINT:
                    i += 1
                    while i < size and 0 <= byte(text, i) - _ZERO <= 9:
                        if digits < 6:
                            value = 10 * value + byte(text, i) - _ZERO
                        elif digits == 6:
                            up = byte(text, i) >= _ZERO + 5
                        digits += 1
                        i += 1
                for _ in range(digits, 6):
                    value *= 10
                value += up
                value = -value if negative else value
            code = byte(text, i) if i < size else _NEWLINE
            if code not in (_SPACE, _TAB, _RETURN, _NEWLINE):
                words = -1
                break
            values[words] = value
            words += 1
        while i < size and byte(text, i) != _NEWLINE:
            i += 1
        if words == 4 and i - line <= LONGEST_LINE:
            t[count], x[count], y[count], p[count] = values[0], values[1], values[2], values[3]
            count += 1
        elif words:
            bad += 1
            first = line if first < 0 else first
        i += 1
    return count, bad, first
