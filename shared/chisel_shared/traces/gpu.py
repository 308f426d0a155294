"""The GPU events of a trace: what kind each is, on which device, and the call that launched it."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chisel_shared.traces.columns import (
    DRIVER,
    KERNEL,
    MEMCPY,
    MEMSET,
    RUNTIME,
    Columns,
    Floats,
    Ints,
    Mask,
)

KINDS = ("compute", "comm", "copy", "set")
COMPUTE, COMM, COPY, SET = range(len(KINDS))

_COMM = re.compile(r"nccl|rccl", re.IGNORECASE)
_ROCM_COPY = re.compile(r"(MEMORY_COPY_\w+|__amd_rocclr_copyBuffer\w*)(\.kd)?")
_ROCM_SET = re.compile(r"__amd_rocclr_fillBuffer\w*(\.kd)?")
"""ROCm up to 7.1 records its copies and fills as kernels."""


@dataclass(frozen=True)
class GpuEvents:
    """Parallel arrays over all GPU events, in the file's order."""

    row: Ints
    """In the columns."""
    kind: NDArray[np.int8]
    device: NDArray[np.int32]
    start: Floats
    end: Floats
    dur: Floats
    launch: Ints
    """The row of the runtime or driver call with its correlation; -1: none."""
    orphan: Mask
    """Launched before the recording began: it has a correlation that no call in the file has."""

    def __len__(self) -> int:
        return len(self.row)

    def where(self, mask: Mask) -> "GpuEvents":
        return GpuEvents(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))

    @property
    def known(self) -> "GpuEvents":
        """Without orphans: what all times are made of."""
        return self.where(~self.orphan)


def gpu_events(columns: Columns) -> GpuEvents:
    row = columns.of(KERNEL, MEMCPY, MEMSET)
    launch, any_calls = _launches(columns, row)
    # A trace without any call (recorded without CPU activity) says nothing about when launches were.
    orphan = (launch < 0) & (columns.correlation[row] >= 0) & any_calls
    return GpuEvents(
        row=row,
        kind=_kinds(columns, row),
        device=columns.device[row],
        start=columns.ts[row],
        end=columns.end[row],
        dur=columns.dur[row],
        launch=launch,
        orphan=orphan,
    )


def _launches(columns: Columns, row: Ints) -> tuple[Ints, bool]:
    calls = columns.of(RUNTIME, DRIVER)
    calls = calls[columns.correlation[calls] >= 0]
    if not len(calls):
        return np.full(len(row), -1, np.int64), False
    calls = calls[np.argsort(columns.correlation[calls], kind="stable")]
    known = columns.correlation[calls]
    wanted = columns.correlation[row]
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[place] == wanted, calls[place], -1), True


def _kinds(columns: Columns, row: Ints) -> NDArray[np.int8]:
    name, category = columns.name[row], columns.category[row]
    kinds = np.full(len(row), COMPUTE, np.int8)
    kinds[columns.names_that(_COMM.search)[name]] = COMM
    kernel = category == KERNEL
    kinds[kernel & columns.names_that(_ROCM_COPY.fullmatch)[name]] = COPY
    kinds[kernel & columns.names_that(_ROCM_SET.fullmatch)[name]] = SET
    kinds[category == MEMCPY] = COPY
    kinds[category == MEMSET] = SET
    return kinds
