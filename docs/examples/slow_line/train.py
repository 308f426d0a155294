"""Learn handwritten digits with images that are shifted a little each time: correct, and slow.

`--fast` shifts a whole batch at once instead of image by image. docs/howto/find-the-slow-line.md tells how
the trace leads there.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

from chisel import capture_trace


def shifted_one_by_one(images: torch.Tensor) -> torch.Tensor:
    """Each image moved by up to one pixel, in a loop."""
    moved = []
    for image in images:
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        moved.append(torch.roll(image, (dy, dx), dims=(-2, -1)))
    return torch.stack(moved)


def shifted_together(images: torch.Tensor) -> torch.Tensor:
    """The same for all images at once: where each pixel comes from is computed, then gathered."""
    count, _, height, width = images.shape
    by = torch.randint(-1, 2, (count, 2), device=images.device)
    rows = (torch.arange(height, device=images.device) - by[:, :1]) % height
    columns = (torch.arange(width, device=images.device) - by[:, 1:]) % width
    flat = (rows[:, :, None] * width + columns[:, None, :]).view(count, -1)
    return images.view(count, -1).gather(1, flat).view_as(images)


@capture_trace("train_epoch", with_stack=True, max_calls=5)
def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    fast: bool,
) -> float:
    """One pass over the images; the mean loss."""
    shifted = shifted_together if fast else shifted_one_by_one
    total = 0.0
    for batch in torch.randperm(len(labels), device=labels.device).split(128):
        loss = nn.functional.cross_entropy(model(shifted(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    return total / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--fast", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(7)
    torch.set_num_threads(1)  # for a network this small, more get in each other's way
    device = "cuda" if torch.cuda.is_available() else "cpu"
    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32, device=device).unsqueeze(1)
    labels = torch.tensor(digits.target, device=device)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, arguments.epochs + 1):
        loss = train_epoch(model, optimizer, images, labels, fast=arguments.fast)
        print(f"epoch {epoch}  loss {loss:.4f}")


if __name__ == "__main__":
    main()
