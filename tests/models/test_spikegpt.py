"""SpikeGPT: published sizes, the parallel form against token by token, and a state that does not grow."""

import math

import pytest
import torch
from torch import Tensor, nn

from spikenet import Stream
from spikenet.energy import count
from spikenet.errors import ArgumentError, DtypeError, ShapeError
from spikenet.models import SpikeGPT, generate
from tests.models.sizes import on_meta, parameters


def lively(model: SpikeGPT) -> SpikeGPT:
    """Weights with which all neurons fire; some are zero at first."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=2.0 / math.sqrt(module.in_features))
    for block in model.blocks:
        nn.init.normal_(block.time.out.weight)
        nn.init.normal_(block.channel.value.weight)
    return model.eval()


@pytest.mark.parametrize(("sizes", "published"), [((5458, 512, 12), 46_553_088), ((50277, 768, 18), 215_399_424)])
def test_published_parameters(sizes: tuple[int, int, int], published: int) -> None:
    with on_meta():
        assert parameters(SpikeGPT(*sizes)) == published


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_token_by_token_gives_the_logits_of_the_whole_text(dtype: torch.dtype, tolerance: float) -> None:
    model = lively(SpikeGPT(50, 32, 3)).to(dtype)
    tokens = torch.randint(50, (70, 3))
    rates = []
    model.blocks[1].lif_time.register_forward_hook(lambda *call: rates.append(call[2].mean().item()))
    with torch.inference_mode():
        whole = model(tokens)
        stream = Stream(model)
        torch.testing.assert_close(torch.stack([stream.step(t) for t in tokens]), whole, rtol=0, atol=tolerance)
    assert 0.02 < rates[0] < 0.9
    assert whole.std() > 0.1


def test_the_state_has_the_size_that_the_paper_gives() -> None:
    """A block keeps two shifted tokens, p, q and o, and two membranes; the binary embedding's neuron one more."""
    model, dim, depth = SpikeGPT(11, 8, 4).eval(), 8, 4
    stream = Stream(model)

    def size() -> int:
        states = (held.state for held in stream.states.values())
        return sum(s.numel() if isinstance(s, Tensor) else sum(p.numel() for p in s) for s in states)

    stream(torch.randint(11, (3, 1)))
    after_three = size()
    stream(torch.randint(11, (200, 1)))
    assert size() == after_three == depth * 7 * dim + dim


def test_later_tokens_change_nothing_before() -> None:
    model = lively(SpikeGPT(20, 16, 2)).double()
    tokens = torch.randint(20, (12, 2))
    changed = tokens.clone()
    changed[7:] = torch.randint(20, (5, 2))
    assert torch.equal(model(tokens)[:7], model(changed)[:7])
    assert not torch.equal(model(tokens)[7:], model(changed)[7:])


def test_one_block_by_hand() -> None:
    """With the head as identity and no mixing yet (all zero at first), logits are LN_out(LN0(step(Emb)))."""
    model = SpikeGPT(4, 4, 1).double().eval()
    model.head.weight.data = torch.eye(4).double()
    model.embedding.weight.data = torch.tensor(
        [[1.0, -1, -1, -1], [1, 1, 1, -1], [0, 0, -2, -2], [3, -1, 5, -1]]
    ).double()
    bits = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0]]).double()
    normal = nn.functional.layer_norm(nn.functional.layer_norm(bits, (4,)), (4,))
    torch.testing.assert_close(model(torch.arange(4)[:, None])[:, 0], normal)


def test_it_learns_to_copy_and_generates_what_it_learnt() -> None:
    torch.manual_seed(0)
    model = SpikeGPT(5, 32, 1, dropout=0.0)
    text = torch.arange(5).repeat(5)[:, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(50):
        loss = nn.functional.cross_entropy(model(text[:-1]).flatten(0, 1), text[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    assert generate(model, torch.tensor([3, 4, 0]), 6, temperature=0).tolist() == [1, 2, 3, 4, 0, 1]
    assert generate(model, torch.tensor([3]), 0).tolist() == []


def test_the_counter_sees_every_product() -> None:
    model = lively(SpikeGPT(7, 8, 2))
    with torch.no_grad(), count(model, strict=True) as work:
        model(torch.randint(7, (6, 3)))
    gates = 2 * 2 * 8  # sigmoid(r) times an activation, twice in a block
    assert sum(layer.dense_macs_frame for layer in work.layers) / work.samples == 2 * 13 * 64 + 7 * 8 + gates


def test_wrong_input_is_refused_in_words() -> None:
    model = SpikeGPT(7, 8, 1)
    with pytest.raises(DtypeError, match="integers"):
        model(torch.zeros(3, 2))
    with pytest.raises(ShapeError, match=r"\[T, 1\]"):
        model(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ArgumentError, match="prompt"):
        generate(model, torch.zeros(0, dtype=torch.int64), 3)
    with pytest.raises(ArgumentError, match="vocabulary"):
        SpikeGPT(0)
