"""Try a function here first, run the very same file on GPUs afterwards."""

from chisel import capture_trace


# This works both locally and on cloud
@capture_trace(trace_name="my_function")
def my_function():
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Your GPU code here
    return torch.randn(100, device=device)


# Test locally first
if __name__ == "__main__":
    result = my_function()
    print(f"Result: {result}")
