"""A program: batch norms over a batch in parts on 2 processes, against torch's on the whole.

Exits with 0 if all agree.
"""

import copy

import torch
from torch import Tensor, distributed, nn

from spikenet.layers import BatchNorm1d, BatchNorm2d, ThresholdNorm2d
from spikenet.layers.channels import ChannelNorm
from spikenet.training.synced_norms import synced_norms
from tests.forked import run

MAPS, TOKENS = (3, 7, 4, 2, 5), (3, 7, 5, 4)  # [T, B, C, H, W] and [T, B, N, D], four channels
CASES = [
    (nn.BatchNorm1d(4), 0, (7, 4)),
    (nn.BatchNorm2d(4, momentum=None), 0, (7, 4, 2, 5)),
    (nn.BatchNorm1d(4, affine=False, track_running_stats=False), 0, (7, 4, 6)),
    (BatchNorm1d(4), 1, (3, 7, 4)),
    (BatchNorm2d(4, eps=0.1, momentum=0.3), 1, MAPS),
    (ThresholdNorm2d(4, 0.5), 1, MAPS),
    (ChannelNorm(4), 1, TOKENS),
]


def same(what: str, ours: Tensor, truth: Tensor) -> None:
    if not torch.allclose(ours, truth, rtol=1e-12, atol=1e-11):
        raise SystemExit(f"{what}: {(ours - truth).abs().max():.3g} apart")


def check(rank: int, norm: nn.Module, axis: int, shape: tuple[int, ...], parts: list[list[int]]) -> None:
    draw = torch.Generator().manual_seed(0)
    whole, seed = (3 + 2 * torch.randn(shape, generator=draw, dtype=torch.float64) for _ in "xs")
    mine = torch.tensor(parts[rank])
    theirs, where = copy.deepcopy(norm).double(), f"{type(norm).__name__} of {shape}, parts {parts}"
    ours, x = copy.deepcopy(theirs), whole.index_select(axis, mine).requires_grad_()
    counts = rank == 0 or parts[0] != [*range(7)]
    with synced_norms(nn.Sequential(ours)) as norms:
        norms[0].counts = counts
        for _ in range(2):  # running statistics move twice
            y = ours(x)
        (y * seed.index_select(axis, mine)).sum().mul(float(counts)).backward()
        heard = ours.eval()(x.detach())
    whole.requires_grad_()
    for _ in range(2):
        truth = theirs(whole)
    (truth * seed).sum().backward()
    if type(ours) is not type(norm):
        raise SystemExit(f"{where}: left as {type(ours)}")
    for name, statistic in theirs.named_buffers():
        same(f"{where}, {name}", ours.get_buffer(name).double(), statistic.double())
    if counts:
        same(where, y.detach(), truth.detach().index_select(axis, mine))
        same(f"{where}, gradient", x.grad, whole.grad.index_select(axis, mine))
    for name, parameter in theirs.named_parameters():
        gradient = ours.get_parameter(name).grad
        distributed.all_reduce(gradient)
        same(f"{where}, gradient of {name}", gradient, parameter.grad)
    truth = theirs.eval()(whole.detach())
    if counts:
        same(f"{where}, eval of parts", heard, truth.index_select(axis, mine))
    same(f"{where}, eval", ours(whole.detach()), truth)


def work(rank: int, path: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    for norm, axis, shape in CASES:
        check(rank, norm, axis, shape, [[0, 2, 4, 6], [1, 3, 5]])
        check(rank, norm, axis, shape, [[*range(7)], [0]])  # what the second has does not count
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    run(work, 2)
