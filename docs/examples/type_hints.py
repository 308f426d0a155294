"""A decorated function keeps its signature and its type hints."""

from typing import Optional, get_type_hints

import numpy as np
import torch

from chisel import capture_trace


@capture_trace(trace_name="typed_ops")
def process(data: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(data)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensor = tensor.to(device)
    result = tensor * 2
    return result.cpu().numpy()


def doubled(data: Optional[np.ndarray]) -> Optional[np.ndarray]:  # noqa: UP045 - as people write it
    return None if data is None else process(data)


if __name__ == "__main__":
    assert get_type_hints(process) == {"data": np.ndarray, "return": np.ndarray}
    assert doubled(None) is None
    print(f"Doubled: {doubled(np.arange(4)).tolist()}")
