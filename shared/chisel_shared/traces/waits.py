"""Calls that wait on purpose, and what is known to help."""

import re
from typing import NamedTuple


class Wait(NamedTuple):
    code: str
    cure: str


SYNC = Wait(
    "sync",
    "Let the CPU run ahead: call `.item()`, `.cpu()`, `print(tensor)` and `synchronize()` every N steps, not"
    " in each; keep running sums on the GPU.",
)
LOADER = Wait(
    "data-loading",
    "Load ahead of the GPU: `DataLoader(num_workers=4, pin_memory=True, persistent_workers=True)`, and do"
    " costly transforms once, before training.",
)
ALLOCATION = Wait(
    "allocation",
    "Memory is asked of the driver inside the loop: warm up with the largest batch first, keep shapes equal,"
    " or set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True.",
)

_SYNC = re.compile(
    r"(?:cuda|hip|cu)\w*Synchronize|(?:cuda|hip)Memcpy|aten::item|aten::_local_scalar_dense|aten::nonzero"
)
_LOADER = re.compile(r"torch/utils/data/dataloader\.py\(\d+\): __next__|.*#_\w*DataLoaderIter\.__next__.*")
_ALLOCATION = re.compile(
    r"(?:cuda|hip)(?:Malloc|Free|HostAlloc|MallocHost|HostFree)|cuMem(?:Create|Map|Unmap)"
)


def wait(name: str) -> Wait | None:
    """What kind of waiting a call is; None: it works, as far as its name tells."""
    if _SYNC.fullmatch(name):
        return SYNC
    if _LOADER.fullmatch(name):
        return LOADER
    if _ALLOCATION.fullmatch(name):
        return ALLOCATION
    return None
