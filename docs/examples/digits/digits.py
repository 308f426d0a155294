"""Learn to read handwritten digits: scikit-learn's 1,797 real images, a small network, a real score.

`python digits.py` runs it here; `chisel python digits.py` runs it on a GPU, with one trace file for
the first epochs and one for the evaluation. Ends with 1 when fewer than 95 % of the digits it never
saw are read correctly.
"""

import argparse
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from chisel import capture_trace

WANTED_ACCURACY = 0.95
HELD_OUT = 0.25


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small network on scikit-learn's digits.")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def split(device: str, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images and labels to learn from, then those to be judged by."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = torch.tensor(digits.images[order] / 16.0, dtype=torch.float32, device=device).unsqueeze(1)
    labels = torch.tensor(digits.target[order], device=device)
    held_out = int(len(labels) * HELD_OUT)
    return images[held_out:], labels[held_out:], images[:held_out], labels[:held_out]


def build_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


@capture_trace(trace_name="train_epoch", record_shapes=True)
def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    batch_size: int,
) -> float:
    """One pass over the images in a new order; the mean loss."""
    model.train()
    total = 0.0
    for batch in torch.randperm(len(labels), device=labels.device).split(batch_size):
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    return total / len(labels)


@capture_trace(trace_name="evaluate")
def evaluate(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of `images` that the model reads correctly."""
    model.eval()
    with torch.no_grad():
        right = (model(images).argmax(dim=1) == labels).sum()
    return right.item() / len(labels)


def main() -> int:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, labels, unseen_images, unseen_labels = split(device, arguments.seed)
    model = build_model().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=arguments.lr)
    print(f"{len(labels)} digits to learn from, {len(unseen_labels)} to be judged by, on {device}")
    for epoch in range(1, arguments.epochs + 1):
        loss = train_epoch(model, optimizer, images, labels, arguments.batch_size)
        print(f"epoch {epoch:2d}  loss {loss:.4f}")
    accuracy = evaluate(model, unseen_images, unseen_labels)
    print(f"accuracy {accuracy:.4f}")
    if accuracy < WANTED_ACCURACY:
        print(f"below {WANTED_ACCURACY}: not good enough", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
