"""Event packets of AEDAT 4: flatbuffers whose every offset is checked. Importing this module imports numba."""

from __future__ import annotations

import numba
import numpy as np

from spikenet.kernels.events.words import signed_word, word

EVENT = 16  # bytes


@numba.njit(cache=True)
def find_events(packet: np.ndarray, size: int) -> tuple[int, int]:
    """Where the events of a size-prefixed ``EVTS`` flatbuffer begin and how many there are.

    Args:
        packet: uint8 with ``size`` bytes or more.
        size: bytes of the packet.

    Returns:
        Place and number; a place below 0 means damage.
    """
    if size < 12 or word(packet, 0) + 4 > size:
        return -1, 0
    end, table = 4 + word(packet, 0), 4 + word(packet, 4)
    if table + 4 > end:
        return -1, 0
    about = table - signed_word(packet, table)  # the vtable: its size, the table's, the fields' places
    if about < 4 or about + 4 > end:
        return -1, 0
    known = word(packet, about) & 0xFFFF
    if known < 4 or about + known > end:
        return -1, 0
    field = word(packet, about + 2) >> 16 if known >= 6 else 0
    if field == 0:
        return 0, 0  # a packet without its vector
    field += table
    if field + 4 > end:
        return -1, 0
    vector = field + word(packet, field)
    if vector + 4 > end:
        return -1, 0
    count = word(packet, vector)
    if count * EVENT > end - vector - 4:
        return -1, 0
    return vector + 4, count


@numba.njit(cache=True)
def split_events(
    packet: np.ndarray,
    place: int,
    count: int,
    t: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    to: int,
) -> None:
    """Write ``count`` events that begin at ``packet[place]`` to the columns, from row ``to`` on."""
    for k in range(count):
        i = place + EVENT * k
        t[to + k] = word(packet, i) | word(packet, i + 4) << 32
        address = word(packet, i + 8)
        x[to + k], y[to + k] = np.int16(address & 0xFFFF), np.int16(address >> 16)
        p[to + k] = packet[i + 12]
