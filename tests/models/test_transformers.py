"""QKFormer, Max-Former, Max-ResNet and the Spike-driven Transformer: published sizes, operations, small cases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikenet.energy import count
from spikenet.errors import ArgumentError, ShapeError, UnknownNameError
from spikenet.events import expand
from spikenet.models import MaxFormer, MaxResNet, QKFormer, SpikeDrivenTransformer
from spikenet.neurons import MultiSpikeLIF
from tests.models.sizes import dense_macs, on_meta, parameters

Make = Callable[[], nn.Module]

PUBLISHED: list[tuple[Make, int]] = [
    (lambda: QKFormer.imagenet(384), 16_473_688),
    (lambda: QKFormer.imagenet(512), 29_079_336),
    (lambda: QKFormer.imagenet(), 64_962_760),
    (lambda: MaxFormer.cifar(), 6_568_282),
    (lambda: MaxFormer.cifar(100), 6_602_932),
    (lambda: MaxFormer.dvs(), 1_455_626),
    (lambda: MaxFormer.imagenet(384), 16_237_240),
    (lambda: MaxFormer.imagenet(512), 28_653_480),
    (lambda: MaxFormer.imagenet(), 63_992_200),
    (lambda: MaxResNet((3, 32, 32), 10), 12_502_090),
    (lambda: MaxResNet((3, 32, 32), 100), 12_548_260),
]


@pytest.mark.parametrize(("make", "published"), PUBLISHED)
def test_published_parameters(make: Make, published: int) -> None:
    with on_meta():
        assert parameters(make()) == published


@pytest.mark.parametrize(
    ("dim", "depth", "published"),
    [(384, 8, 16_816_536), (512, 6, 23_373_736), (512, 8, 29_689_896), (768, 8, 66_339_144)],
)
def test_published_parameters_of_the_spike_driven_transformer(dim: int, depth: int, published: int) -> None:
    """Without the convolution over 8 heads in every block, which is never called."""
    with on_meta():
        assert parameters(SpikeDrivenTransformer.imagenet(dim, depth)) == published - depth * 64
        assert parameters(SpikeDrivenTransformer.cifar()) == 10_233_546 - 2 * 64


@pytest.mark.parametrize(
    ("make", "published"),
    [
        (lambda: QKFormer.imagenet(384), 5.8312e9),
        (lambda: QKFormer.imagenet(512), 10.3376e9),
        (lambda: QKFormer.imagenet(), 23.1941e9),
        (lambda: MaxFormer.imagenet(384), 5.2412e9),
        (lambda: MaxFormer.imagenet(), 20.8868e9),
    ],
)
def test_published_operations(make: Make, published: float) -> None:
    """Dense MACs of a step, without the attention products: they tell where the maps are halved."""
    with on_meta():
        model = make()
    assert dense_macs(model, 1, 1, 3, 224, 224) == pytest.approx(published, rel=2e-5)


TINY: list[Make] = [
    lambda: QKFormer((2, 16, 16), 3, 16, heads=2),
    lambda: QKFormer((2, 16, 16), 3, 16, heads=2, over="channel"),
    lambda: MaxFormer((2, 16, 16), 3, 16, heads=2),
    lambda: MaxFormer((2, 16, 16), 3, 16, "quarter", (7, "attention"), (1, 1), heads=2),
    lambda: MaxFormer((2, 16, 16), 3, 16, "eighth", (3, "attention"), (1, 1), heads=2, ratio=1.0),
    lambda: MaxResNet((2, 16, 16), 3, 8, (8, 16), (1, 2), (False, True)),
    lambda: SpikeDrivenTransformer((2, 16, 16), 3, 16, 1),
    lambda: SpikeDrivenTransformer((2, 16, 16), 3, 16, 1, "product", 2, levels=4),
]


@pytest.mark.parametrize("make", TINY)
def test_the_counter_sees_every_operation_and_training_reaches_every_weight(make: Make) -> None:
    """The counter's dense MACs are those of the layers' shapes and of the attention products."""
    model = make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(module.bias, 2.0)  # so that every layer has spikes
    x = (torch.rand(3, 2, 2, 16, 16) < 0.3).float()
    with count(model, strict=True) as work:
        logits = model(x)
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    products = sum(layer.dense_macs_frame for layer in work.layers if layer.operation == "product") / work.samples
    connections = sum(layer.dense_macs_frame for layer in work.layers if layer.operation == "connection") / work.samples
    assert (products > 0) == any(name.endswith("attention") for name, _ in model.named_modules())
    with on_meta():
        same = make()
    assert connections == dense_macs(same, 1, 1, 2, 16, 16)


def test_integer_training_has_no_memory_and_becomes_spikes() -> None:
    """Equal frames give equal steps; every number a neuron sends is the mean of four binary steps, and a linear layer
    with whole weights gives the same for both, to the last bit."""
    model = SpikeDrivenTransformer((2, 16, 16), 3, 16, 1, levels=4).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -1.0, 3.0)
    sent: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, MultiSpikeLIF):
            module.register_forward_hook(lambda *call: sent.append(call[2]))
    frame = torch.rand(2, 2, 16, 16)
    three = model(frame.expand(3, *frame.shape))
    assert {v.item() for z in sent for v in z.unique()} == {0.0, 0.25, 0.5, 0.75, 1.0}
    for z in sent:
        assert torch.equal(z[0], z[2])
    torch.testing.assert_close(three, model(frame[None]))
    z = sent[-1]
    weight = torch.randint(-8, 9, (z.shape[-1], 5)).float()
    binary = expand(z, 4)
    assert set(binary.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal((binary @ weight).unflatten(0, (-1, 4)).mean(1), z @ weight)


def test_max_resnet_halves_where_it_is_told() -> None:
    sizes = []
    model = MaxResNet((2, 16, 16), 3, 8, (8, 16, 16), (1, 1, 1), (False, True, True))
    for stage in (1, 2, 3):
        model.body.get_submodule(f"stage{stage}_1").register_forward_hook(lambda *call: sizes.append(call[2].shape[2]))
    model(torch.rand(1, 2, 2, 16, 16))
    assert sizes == [16, 8, 4]


def test_wrong_options_are_refused_in_words() -> None:
    for make in (QKFormer, MaxFormer, MaxResNet, SpikeDrivenTransformer):
        with pytest.raises(ShapeError, match=rf"{make.__name__} takes data of shape \(C, H, W\)"):
            make((700,), 3)
    with pytest.raises(ArgumentError, match="three depths"):
        QKFormer((2, 16, 16), 3, 16, (1, 1))
    with pytest.raises(UnknownNameError, match="Known: eighth, quarter, same"):
        MaxFormer((2, 16, 16), 3, embed="half")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="a depth for each mixer"):
        MaxFormer((2, 16, 16), 3, depths=(1, 2))
    with pytest.raises(ArgumentError, match="for each stage"):
        MaxResNet((2, 16, 16), 3, depths=(1, 2))
    with pytest.raises(UnknownNameError, match="Known: gate, product"):
        SpikeDrivenTransformer((2, 16, 16), 3, attention="softmax")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="1 level"):
        SpikeDrivenTransformer((2, 16, 16), 3, levels=0)
    for heads in (0, 3, 32):
        with pytest.raises(ArgumentError, match=f"{heads} heads do not divide 16 features"):
            SpikeDrivenTransformer((2, 16, 16), 3, 16, 1, "product", heads)
    with pytest.raises(UnknownNameError, match="foo"):
        MaxFormer((2, 16, 16), 3, mixers=("foo",), depths=(1,))  # type: ignore[arg-type]
    for dim, embed in ((65, "same"), (68, "same"), (16, "eighth")):
        with pytest.raises(ArgumentError, match=f"multiple of (8|32) for these stages, got {dim}"):
            MaxFormer((2, 16, 16), 3, dim, embed)  # type: ignore[arg-type]
