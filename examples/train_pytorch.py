"""A plain PyTorch training, measured by epoch, evaluation apart.

    python examples/train_pytorch.py
    torchrun --nproc-per-node 2 examples/train_pytorch.py      # both processes are measured by the first

Needs torch. What it cost is in the ledger: ``negajoule report --by stage``.
"""

from __future__ import annotations

import os

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from negajoule.instrument.callbacks import TrainingAccount

EPOCHS = 2
BATCH = 64


def main() -> None:
    """Fit a small network to the sum of its inputs."""
    together = "LOCAL_RANK" in os.environ
    if together:
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(torch.distributed.get_rank() if together else 0)
    inputs = torch.rand(4096, 32)
    targets = inputs.sum(dim=1, keepdim=True)
    model: nn.Module = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))
    if together:
        model = DistributedDataParallel(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)

    account = TrainingAccount("sum of inputs")  # a name of yours; says nothing on ranks other than the first
    account.begin(epoch=1, step=0)
    step = 0
    for epoch in range(1, EPOCHS + 1):
        account.train(epoch=epoch, step=step)
        for batch, wanted in zip(inputs.split(BATCH), targets.split(BATCH), strict=True):
            optimiser.zero_grad()
            nn.functional.mse_loss(model(batch), wanted).backward()
            optimiser.step()
            step += 1
            account.stepped(step)
        account.turn_to("evaluation")
        with torch.no_grad():
            loss = float(nn.functional.mse_loss(model(inputs), targets))
        account.turn_back()
    account.end()

    if account.footprint is not None and account.footprint.it_energy is not None:
        energy = account.footprint.it_energy
        interval = f"{energy.low:.3g} to {energy.high:.3g}"
        print(f"loss {loss:.4f} after {step} steps: {energy.value:.3g} J ({interval})")
    if together:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
