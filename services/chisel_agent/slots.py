"""Which GPUs are held by which attempt. Pure: no I/O, no clock."""

from collections.abc import Hashable


class NotFree(Exception):
    """Fewer GPUs are free than were asked for."""


class Slots:
    """The GPUs of this machine, each free or held by one holder."""

    def __init__(self, indices: tuple[int, ...]) -> None:
        self._all = indices
        self._held: dict[int, Hashable] = {}

    @property
    def free(self) -> tuple[int, ...]:
        return tuple(index for index in self._all if index not in self._held)

    def allocate(self, holder: Hashable, count: int) -> tuple[int, ...]:
        """Give `count` GPUs to `holder`: neighbours on an aligned place if there is one, because those
        share a faster link. `NotFree` when there are not enough, and nothing changes."""
        free = self.free
        if count > len(free):
            raise NotFree(f"{count} GPUs are wanted, {len(free)} are free")
        chosen = _aligned(self._all, set(free), count) or free[:count]
        for index in chosen:
            self._held[index] = holder
        return chosen

    def adopt(self, holder: Hashable, indices: tuple[int, ...]) -> None:
        """`holder` has these from an earlier life of the agent; ones that are no longer offered are
        not counted. `NotFree` when another holds one, and nothing changes."""
        known = [index for index in indices if index in self._all]
        for index in known:
            if self._held.get(index, holder) != holder:
                raise NotFree(f"GPU {index} is held by another attempt")
        for index in known:
            self._held[index] = holder

    def release(self, holder: Hashable) -> None:
        """Everything `holder` has is free. Doing it twice is harmless."""
        self._held = {index: by for index, by in self._held.items() if by != holder}


def _aligned(every: tuple[int, ...], free: set[int], count: int) -> tuple[int, ...] | None:
    for start in range(0, len(every) - count + 1, max(1, count)):
        block = every[start : start + count]
        if free.issuperset(block):
            return block
    return None
