"""The energy as a term of the loss: the field's formula on the spikes of a forward pass, with a gradient.

    E = e_ac * sum over connections of |input| . fan-out  +  e_mac * MACs of connections with graded input

The fan-out of each input is exact: a spike at the border of a convolution reaches fewer outputs. The gradient flows
back into the neurons through their surrogates; graded input (pixels, averages) costs the same whatever it is, so its
part has none.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from spikenet.energy.models import FIELD, FieldFormula
from spikenet.errors import StateError
from spikenet.events import EventTensor
from spikenet.layers import Recurrent

_Convolution = nn.modules.conv._ConvNd
_DROPOUT = nn.modules.dropout._DropoutNd


class EnergyTerm:
    """Energy of the last forward pass of a network, pJ a sample, to be added to a loss:

        term = EnergyTerm(net)
        loss = cross_entropy(net(x), labels) + weight * term()

    Equals ``price(work).total`` of a count of the same pass. Dropout is looked through: what is charged are the spikes
    before it, as they would be without it.

    Args:
        network: called on ``[T, B, ...]``. Linear layers, convolutions, and spikenet's recurrent layers and layers with
            delays are charged.
        model: the field's formula with its number format and constants.

    Attributes:
        uncounted: layers with weights, and attention, whose products are not charged, by name. What another module
            multiplies in its own ``forward`` is not seen; a count of one pass shows whether there is any.
    """

    def __init__(self, network: nn.Module, model: FieldFormula = FIELD) -> None:
        self.model = model
        self.uncounted: list[str] = []
        self._spent: list[Tensor] | None = None
        self._samples = 1
        self._undropped: dict[int, tuple[Tensor, Tensor]] = {}
        self._fan_outs: dict[tuple[Any, ...], Tensor] = {}
        self._handles = [network.register_forward_pre_hook(lambda _, args: self._open(args[0]))]
        for name, module in network.named_modules():
            self._attach(name or "network", module)

    def __call__(self) -> Tensor:
        """Scalar energy of the last forward pass.

        Raises:
            StateError: there was none.
        """
        if self._spent is None:
            raise StateError("EnergyTerm: there is no forward pass to charge; call the network first.")
        if not self._spent:
            return torch.zeros(())
        return torch.stack(self._spent).sum() / self._samples

    def remove(self) -> None:
        """Take the hooks off the network."""
        for handle in self._handles:
            handle.remove()
        self._undropped.clear()

    def __enter__(self) -> EnergyTerm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _attach(self, name: str, module: nn.Module) -> None:
        hook: Any = None
        if isinstance(module, nn.Linear | _Convolution) and not getattr(module, "transposed", False):
            hook = lambda module, args, output: self._connection(module, module, args[0], output)  # noqa: E731
        elif hasattr(module, "sends"):
            hook = lambda module, args, output: self._sent(module, args[0], output)  # noqa: E731
        elif isinstance(module, Recurrent):
            hook = lambda module, args, output: self._recurrent(module, output)  # noqa: E731
        elif isinstance(module, _DROPOUT):
            hook = lambda module, args, output: self._dropout(args[0], output)  # noqa: E731
        elif _is_charged_nowhere(module):
            self.uncounted.append(f"{name} ({type(module).__name__})")
        if hook is not None:
            self._handles.append(module.register_forward_hook(_unseen(hook)))

    def _open(self, x: Any) -> None:
        self._spent, self._samples = [], int(x.shape[1])
        self._undropped.clear()

    def _dropout(self, x: Tensor, output: Tensor) -> None:
        self._undropped[id(output)] = (output, x)  # the output is kept, so that its id stays its own

    def _sent(self, module: Any, x: Tensor | EventTensor, output: Tensor) -> None:
        values, plain = module.sends(x, output)
        self._connection(module, plain, values, output)

    def _connection(
        self, module: nn.Module, layer: nn.Linear | _Convolution, x: Tensor | EventTensor, output: Tensor
    ) -> None:
        """`layer` has the synapses of `module`, which is itself unless that has delays."""
        given: Tensor = x.to_dense() if isinstance(x, EventTensor) else self._undropped.get(id(x), (x, x))[1]
        if not _whole(given):
            macs = _positions(layer, given, output) * layer.weight.numel()
            self._charge(torch.full((), self.model.mac * macs, device=given.device))
        elif isinstance(layer, nn.Linear):
            self._charge(self.model.ac * layer.out_features * _magnitude(given))
        else:
            self._charge(self.model.ac * _magnitude(given, self._fan_out(module, layer, given)))

    def _recurrent(self, layer: Recurrent, output: Tensor) -> None:
        targets = layer.features if layer.autapses else layer.features - 1
        if _whole(output):
            self._charge(self.model.ac * targets * _magnitude(output))
        else:
            self._charge(torch.full((), self.model.mac * targets * output.numel(), device=output.device))

    def _charge(self, energy: Tensor) -> None:
        if self._spent is not None:
            self._spent.append(energy)

    def _fan_out(self, module: nn.Module, layer: _Convolution, x: Tensor) -> Tensor:
        shape = x.shape[-len(layer.kernel_size) - 1 :]
        key = (id(module), shape, x.device)
        if key not in self._fan_outs:
            self._fan_outs[key] = fan_out(layer, shape, x.device)
        return self._fan_outs[key]


def fan_out(layer: _Convolution, shape: torch.Size, device: torch.device) -> Tensor:
    """Outputs that each input ``[C, *space]`` of a convolution reaches: the gradient of the sum of the outputs where
    every weight is 1. Padding that copies an input adds the outputs of its copies."""
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.zeros(1, *shape, device=device, requires_grad=True)
        ones = torch.ones(layer.weight.shape, device=device)
        reached = layer._conv_forward(x, ones, None).sum()
        (outputs,) = torch.autograd.grad(reached, x)
    return outputs[0]


def _positions(layer: nn.Linear | _Convolution, x: Tensor, output: Tensor) -> int:
    """How often every weight is used, all steps and samples together."""
    if isinstance(layer, nn.Linear):
        return x.numel() // layer.in_features
    axes = len(layer.kernel_size)
    return math.prod(x.shape[: -axes - 1]) * math.prod(output.shape[-axes:])


def _unseen(hook: Any) -> Any:
    """The hook out of sight of whoever watches torch's operations, such as `count` in the same pass."""

    def run(module: nn.Module, args: Any, output: Any) -> None:
        with torch._C._DisableTorchDispatch():
            hook(module, args, output)

    return run


def _magnitude(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """``sum |x| * weight`` in float32 at least. Where nothing is negative |x| is x, whose slope at 0 is 1: so the
    gradient reaches neurons that did not fire too."""
    size = x.to(torch.promote_types(x.dtype, torch.float32))
    if bool((size < 0).any()):
        size = size.abs()
    return (size if weight is None else size * weight).sum()


def _whole(x: Tensor) -> bool:
    return not x.is_floating_point() or bool((x.detach() == x.detach().round()).all())


def _is_charged_nowhere(module: nn.Module) -> bool:
    from spikenet.neurons import Neuron

    free = isinstance(module, nn.modules.batchnorm._BatchNorm | Neuron)
    return hasattr(module, "attend") or (not free and any(True for _ in module.parameters(recurse=False)))
