"""One traced function that records the shapes of its tensors: `matrix_ops.json` on a backend."""

from chisel import capture_trace


@capture_trace(trace_name="matrix_ops", record_shapes=True)
def matrix_multiply(a, b):
    import torch

    return torch.mm(a, b)


if __name__ == "__main__":
    import torch

    product = matrix_multiply(torch.eye(3) * 2, torch.ones(3, 3))
    print(f"Product: {product.tolist()}")
    assert torch.equal(product, torch.full((3, 3), 2.0))
