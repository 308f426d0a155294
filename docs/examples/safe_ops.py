"""A traced function that falls back to the CPU, and whose exceptions reach the caller."""

from chisel import capture_trace


@capture_trace(trace_name="safe_ops")
def safe_function(data):
    try:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        tensor = torch.tensor(data, device=device)
        return tensor.cpu().numpy()
    except Exception as e:
        print(f"❌ Error: {e}")
        raise


if __name__ == "__main__":
    print(f"Result: {safe_function([1.0, 2.0, 3.0]).tolist()}")
    try:
        safe_function("not numbers")
    except (TypeError, ValueError) as error:
        print(f"Raised to the caller: {type(error).__name__}")
    else:
        raise SystemExit("the exception was lost")
