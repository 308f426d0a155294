"""A script with options of its own: chisel hands them through untouched."""

import argparse

from chisel import capture_trace


@capture_trace(trace_name="training")
def train_model(epochs, learning_rate):
    # Training logic: walk down x² from 1
    x = 1.0
    for _ in range(epochs):
        x -= learning_rate * 2 * x
    print(f"After {epochs} epochs at {learning_rate}: x = {x:.6f}")


def main():
    parser = argparse.ArgumentParser(description="Training script")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.001)

    args = parser.parse_args()
    train_model(args.epochs, args.lr)


if __name__ == "__main__":
    main()
