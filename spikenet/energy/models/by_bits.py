"""The price of an operation by the bits of its operands.

32 and 16 bits are floating point. Fewer are integers, scaled from 8 bits: a multiplication with the product of both
widths, an addition with the width. Scaled to 32 bits that gives 3.2 and 0.12 pJ in 45 nm; Horowitz prints 3.1 and 0.1.
"""

from __future__ import annotations

import numpy as np

from spikenet.energy.hardware import Profile


def multiply(profile: Profile, first: int, second: int) -> np.ndarray:
    """pJ of one multiplication of operands of so many bits, ``[low, value, high]``."""
    floating = _floating(profile, max(first, second))
    return profile[f"operations.{floating}.mul"] if floating else profile["operations.int8.mul"] * (first * second / 64)


def add(profile: Profile, bits: int) -> np.ndarray:
    """pJ of one addition, ``[low, value, high]``."""
    floating = _floating(profile, bits)
    return profile[f"operations.{floating}.add"] if floating else profile["operations.int8.add"] * (bits / 8)


def mac(profile: Profile, weight: int, activation: int) -> np.ndarray:
    """pJ of one multiply-accumulate, the sum as wide as the wider operand."""
    return multiply(profile, weight, activation) + add(profile, max(weight, activation))


def _floating(profile: Profile, bits: int) -> str | None:
    dtype = "fp32" if bits > 16 else "fp16" if bits > 8 else None
    return dtype if dtype and profile.has(f"operations.{dtype}.add") else None
