"""What Numba kernels come in, and the source that they carry along: half-precision rows, and random numbers."""

from __future__ import annotations

from typing import NamedTuple

BLOCK = 1024  # lanes worked on at a time: rows stay in the first-level cache
ROW = BLOCK + 16  # apart by no multiple of 4 KiB, at which stores and loads would wait on each other


class Variant(NamedTuple):
    """What one compiled kernel is made for.

    `storage`: dtype of inputs, output and their gradients. `shared`: every parameter is one number for all lanes.
    `trace`: write (or take the gradients of) the state sequences. `params`: accumulate parameter gradients.
    """

    storage: str
    shared: bool = False
    trace: bool = False
    params: bool = False

    @property
    def real(self) -> str:
        return "float64" if self.storage == "float64" else "float32"

    @property
    def half(self) -> bool:
        return self.storage in HALF


# Each storage type has `widen` (a row into the scratch array) and `narrow` (back, rounding to nearest even).
HALF = {
    "bfloat16": """
@njit(nogil=True, error_model="numpy")
def widen(row, scratch, bits, offset, n):
    for i in range(n):
        bits[offset + i] = np.uint32(row[i]) << np.uint32(16)


@njit(nogil=True, error_model="numpy")
def narrow(scratch, bits, offset, row, n):
    for i in range(n):  # round to nearest even; a NaN stays one
        b = bits[offset + i]
        rounded = (b + np.uint32(0x7FFF) + ((b >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        number = (b & np.uint32(0x7FFFFFFF)) <= np.uint32(0x7F800000)
        row[i] = rounded if number else (b >> np.uint32(16)) | np.uint32(64)
""",
    "float16": """
@njit(nogil=True, error_model="numpy")
def widen(row, scratch, bits, offset, n):
    for i in range(n):  # as if the exponent were biased as in float32, so 2^112 too small
        bits[offset + i] = np.uint32(row[i] & np.uint16(0x7FFF)) << np.uint32(13)
    for i in range(n):
        scratch[offset + i] *= np.float32(2.0**112)
    for i in range(n):  # infinities and NaNs keep all exponent bits set; then the sign
        h = np.uint32(row[i])
        special = np.uint32(0x7F800000) if (h & np.uint32(0x7C00)) == np.uint32(0x7C00) else np.uint32(0)
        bits[offset + i] |= special | ((h & np.uint32(0x8000)) << np.uint32(16))


@njit(nogil=True, error_model="numpy")
def narrow(scratch, bits, offset, row, n):
    for i in range(n):
        sign = (bits[offset + i] >> np.uint32(16)) & np.uint32(0x8000)
        a = bits[offset + i] & np.uint32(0x7FFFFFFF)
        if a > np.uint32(0x7F800000):
            row[i] = sign | np.uint32(0x7E00)
        elif a >= np.uint32(0x47800000):
            row[i] = sign | np.uint32(0x7C00)
        elif a < np.uint32(0x38800000):  # subnormal: adding one half lets the hardware round at 2^-24
            scratch[offset + i] = abs(scratch[offset + i]) + np.float32(0.5)
            row[i] = sign | (bits[offset + i] - np.uint32(0x3F000000))
        else:
            even = (a >> np.uint32(13)) & np.uint32(1)
            row[i] = sign | ((a - np.uint32(0x38000000) + np.uint32(0xFFF) + even) >> np.uint32(13))
""",
}

# Philox4x32-10, word for word as in `philox.py`.
PHILOX = """
@njit(nogil=True, error_model="numpy")
def philox(key, lane, step, draw):
    mask = np.uint64(0xFFFFFFFF)
    c0, c1 = np.uint64(lane) & mask, np.uint64(step) & mask
    c2, c3 = (np.uint64(step) >> np.uint64(32)) & mask, np.uint64(draw)
    k0, k1 = np.uint64(key) & mask, (np.uint64(key) >> np.uint64(32)) & mask
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> np.uint64(32)) ^ c1 ^ k0, b & mask, (a >> np.uint64(32)) ^ c3 ^ k1, a & mask
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    return c0, c1


@njit(nogil=True, error_model="numpy")
def open_interval(word):
    return np.{real}((word >> np.uint64(9)) * np.uint64(2) + np.uint64(1)) * np.{real}(2.0**-24)


@njit(nogil=True, error_model="numpy")
def uniform(key, lane, step, draw):
    return open_interval(philox(key, lane, step, draw)[0])


@njit(nogil=True, error_model="numpy")
def normal(key, lane, step, draw):
    first, second = philox(key, lane, step, draw)
    radius = math.sqrt(np.{real}(-2.0) * math.log(open_interval(first)))
    return radius * math.cos(np.{real}(2.0 * math.pi) * open_interval(second))
"""
