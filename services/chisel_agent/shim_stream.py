"""One output pipe of a job, and the files that take what comes out of it. Standard library only."""

import os
import time

from chisel_agent.shim_tail import TRIES, Tail, append, left_out


class Stream:
    """`size` is what the spool holds: the agent ships that and nothing else."""

    def __init__(self, name: str, *, head: int, tail: int) -> None:
        self.name = name
        self.head_bytes, self.tail_bytes = head, tail
        self.spool = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.size = os.fstat(self.spool).st_size
        self.tail: Tail | None = None
        self.omitted = 0
        self.pipe = -1
        self.open = False  # has not reached its end
        self.polled = False

    def keep(self, data: bytes) -> bool:
        """Take `data`; whether that is news to an agent, who reads no ring but wants to know of one."""
        head = memoryview(data)[: max(0, self.head_bytes - self.size)]
        rest = memoryview(data)[len(head) :]
        news = bool(head) or self.tail is None
        while head:
            written = os.write(self.spool, head)
            self.size += written
            head = head[written:]
        if rest:
            if self.tail is None:
                self.tail = Tail(self.name, tail=self.tail_bytes, head=self.size)
            self.tail.write(rest)
        return news

    def finish(self) -> str:
        """Put what the ring kept where the agent ships it; why that was not possible, if it was not."""
        problem = ""
        if self.tail is not None:
            for _ in range(TRIES):
                try:
                    append(self.name)
                    problem = ""
                    break
                except OSError as error:
                    problem = f"the end of its {self.name} could not be kept: {error.strerror}"
                    time.sleep(1.0)
            self.size = os.fstat(self.spool).st_size
            self.omitted = left_out(self.name)
        return problem
