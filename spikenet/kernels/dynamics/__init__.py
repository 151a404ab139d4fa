"""From a neuron's equations to its scan over time: plain PyTorch, Numba, and the backward pass of both."""

from spikenet.kernels.dynamics.ops import Bound, bind, may_be_bound, register, scan
from spikenet.kernels.dynamics.reference import evaluate
from spikenet.kernels.dynamics.trace import ALPHA, Emit, Program, trace

__all__ = ["ALPHA", "Bound", "Emit", "Program", "bind", "evaluate", "may_be_bound", "register", "scan", "trace"]
