"""Two processes that train together: gloo on the CPU, gradients averaged by all-reduce.

    chisel python ddp.py --gpu 2

`MASTER_ADDR` and `MASTER_PORT` come from the environment, as `torchrun` sets them; a job on a backend
finds a port of its own there, so two jobs of one machine never meet. Started by `torchrun` this file
joins as the rank it was given; started plainly it starts the ranks itself.
"""

import argparse
import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 100


def say(rank: int, text: str) -> None:
    """One write a line: the ranks share one stdout."""
    sys.stdout.write(f"rank {rank}: {text}\n")
    sys.stdout.flush()


def train(rank: int, world: int) -> None:
    """Be one rank: check an all-reduce, then fit a line together."""
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    dist.init_process_group("gloo", rank=rank, world_size=world)
    try:
        ranks = torch.tensor([float(rank)])
        dist.all_reduce(ranks)
        wanted = world * (world - 1) / 2
        if ranks.item() != wanted:
            raise SystemExit(f"rank {rank}: the all-reduce gave {ranks.item()}, not {wanted}")
        say(rank, f"all-reduce over {world} ranks gave {ranks.item():.0f}")

        torch.manual_seed(0)
        model = DistributedDataParallel(nn.Linear(1, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        torch.manual_seed(rank + 1)  # each rank sees other data
        for _ in range(STEPS):
            x = torch.rand(64, 1)
            loss = nn.functional.mse_loss(model(x), 3 * x + 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        weights = nn.utils.parameters_to_vector(model.parameters()).detach()
        first = weights.clone()
        # Gloo's thread may still hold the tensor when this returns, and aborts if Python ends meanwhile. A
        # group that the model does not keep is gone, with its threads, once the groups are destroyed.
        dist.broadcast(first, src=0, group=dist.new_group())
        if not torch.equal(first, weights):
            raise SystemExit(f"rank {rank}: its weights differ from those of rank 0")
        slope, intercept = weights.tolist()
        say(rank, f"y = {slope:.2f} x + {intercept:.2f}")
    finally:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description="Distributed training on gloo.")
    parser.add_argument("--nproc", type=int, default=2, help="ranks to start")
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        train(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    else:
        mp.spawn(train, args=(arguments.nproc,), nprocs=arguments.nproc)


if __name__ == "__main__":
    sys.exit(main())
