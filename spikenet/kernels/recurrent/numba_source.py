"""The neuron's printed Numba kernels with the recurrence inside, so that one call goes through all steps.

A pass of the outermost loop works on whole batch entries. The products run along rows that lie one after another, and
each sum goes in ascending order of the neuron that is heard (forward) or that hears (backward).
"""

from __future__ import annotations

from spikenet.kernels.dynamics.numba_source import BackwardSource, ForwardSource
from spikenet.kernels.dynamics.numba_text import BLOCK, Variant
from spikenet.kernels.dynamics.trace import Program

ROWS = 4  # of W in one pass over the gradient, which is then read and written less often


def forward_source(program: Program, variant: Variant, into: int) -> str:
    """The source of `dynamics`' forward kernel with `drive, weight_t, before, features, width` after the sequences.

    `drive` [T, N] is the input from outside; its place among the inputs takes the total input, which is written: all of
    it, or one row over and over. `weight_t` is `W^T`, `before` [N] the output before the first step.
    """
    return _Forward(program, variant, into).source()


def backward_source(program: Program, variant: Variant, into: int) -> str:
    """The source of `dynamics`' backward kernel with `weight, features, width` at the end; it is given the total."""
    return _Backward(program, variant, into).source()


class _Forward(ForwardSource):
    at_once = "width"

    def __init__(self, program: Program, variant: Variant, into: int) -> None:
        super().__init__(program, variant)
        self.into = into

    def arguments(self) -> list[str]:
        return [*super().arguments(), "drive", "weight_t", "before", "features", "width"]

    def load_step(self) -> None:
        """The total input, then as without recurrence. Nothing is added for a neuron that was silent."""
        total = f"x{self.into}"
        self.line(f"total = {total}[t if {total}.shape[0] > 1 else 0, n0:n0 + n]")
        self.line("outside = drive[t if drive.shape[0] > 1 else 0, n0:n0 + n]")
        self.line("heard = z_all[t - 1, n0:n0 + n] if t > 0 else before[n0:n0 + n]")
        self.lanes(["total[i] = outside[i]"])
        with self.block("for j in range(n):"):
            self.line("z = heard[j]")
            with self.block("if z != zero:"):
                self.line("column = weight_t[j % features]", "hearing = total[j - j % features:]")
                with self.block("for i in range(features):"):
                    self.line("hearing[i] += z * column[i]")
        super().load_step()


class _Backward(BackwardSource):
    at_once = "width"

    def __init__(self, program: Program, variant: Variant, into: int) -> None:
        super().__init__(program, variant)
        self.into = into

    def arguments(self) -> list[str]:
        return [*super().arguments(), "weight", "features", "width"]

    def load_output_gradient(self) -> None:
        """`gz_row`, with what comes back from the step after."""
        super().load_output_gradient()
        self.lanes([f"{self.at('gz')} = gz_row[i]"])
        self.line(f"gz_row = scratch[{self.offset('gz')}:{self.offset('gz') + BLOCK}]")
        with self.block("if t + 1 < steps:"):
            self.line(f"later = gx{self.into}[t + 1, n0:n0 + n]")
            self.line(f"whole = features - features % {ROWS}")
            for start, stop, rows in (("0", "whole", ROWS), ("whole", "features", 1)):
                with self.block(f"for j in range({start}, {stop}, {rows}):"):
                    self.line(*(f"row{k} = weight[j + {k}]" for k in range(rows)))
                    with self.block("for entry in range(0, n, features):"):
                        self.line(*(f"later{k} = later[entry + j + {k}]" for k in range(rows)))
                        self.line("hearing = gz_row[entry:]")
                        with self.block("for i in range(features):"):
                            self.line(
                                f"hearing[i] = hearing[i]{''.join(f' + later{k} * row{k}[i]' for k in range(rows))}"
                            )
