"""The shim: one small process per attempt that holds the user's process and outlives the agent.

It appends stdout and stderr to spool files, enforces the limits, obeys the agent's requests, ends
every descendant, and leaves a record of the end. All it shares with the agent are files in the
attempt's folder; a datagram either way only says "look again":

    launch    what to run (agent)                  lock      held while a shim runs (flock)
    stop      reason [now] [signal=N] [grace=SECONDS]: end the job (agent)
                                                   running   user code may have started; our pid
    lease     end of the lease, if any (agent)     stdout, stderr   the spools
    shipped   bytes that left the spools (agent)   exit      how it ended: written last, whole
    control   this process's socket                ../../doorbell   the agent's socket
    cgroup    the job's control groups             stdout.tail, stderr.tail   see `shim_tail.py`

Standard library only, and little of it, here and in the other `shim_*` files: jobs wait for their
imports. `socket`, `signal` and `json` cost more than the interpreter itself, so their C parts and a
trivial format stand in. `shim_factory.py` is where one begins.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has only the slow wrapper
import _socket
import errno
import os
import select
import time

from chisel_agent.shim_child import Child
from chisel_agent.shim_end import account
from chisel_agent.shim_leftovers import Leftovers
from chisel_agent.shim_stream import Stream
from chisel_agent.shim_system import (
    SIGCHLD,
    SIGHUP,
    SIGINT,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    Launch,
    empty,
    machine_oom_kills,
    now,
    read,
    rest_of_line,
    signal_group,
    signal_one,
    write_all,
    write_file,
)

PIECE_BYTES = 256 * 1024
RECORD_ROOM_BYTES = 4096
GATHER_SECONDS = 0.002  # a job that keeps printing is read this often, not at every line
RING_AGAIN_SECONDS = 0.005
LAST_RINGS = 200  # then the agent is not reading, and will look by itself when it does
BLOCKED_POLL_SECONDS = 0.2
KILL_AGAIN_SECONDS = 0.02
LOOK_SECONDS = 30.0  # the longest sleep
LEASE_LOOK_SECONDS = 2.0  # poll's clock stands still while the machine sleeps, a lease's does not
DOORBELL = "../../doorbell"
STREAMS = ("stdout", "stderr")


class Shim:
    def __init__(self, folder: str, child: Child, secrets: bytes) -> None:
        self.launch = Launch(read("launch"))
        self.folder = folder
        self.child = child
        self.secrets = secrets  # never in a file
        self.name = os.fsencode(os.path.basename(folder))
        self.streams = [Stream(name, head=self.launch.head, tail=self.launch.tail) for name in STREAMS]
        self.poll = select.poll()
        self.pid = 0
        self.status: int | None = None
        self.reason = ""  # why we are ending it
        self.detail = ""
        self.stage = 0  # 0 running, 1 interrupted, 2 terminated, 3 killed
        self.stage_ends = 0.0
        self.first = SIGINT  # what a stop begins with
        self.grace: float | None = None  # how long it then waits, when somebody said so
        self.started_at = 0.0
        self.deadline = 0.0
        self.lease_ends = 0.0
        self.shipped = 0
        self.ring_at = 0.0
        self.copied_at = 0.0
        # Written in place at the end: a full disk must not keep us from saying that it is full.
        self.record = os.open("exit.new", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        write_all(self.record, b"\0" * RECORD_ROOM_BYTES)
        self.bell = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        self.bell.setblocking(False)
        self.control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        self.control.setblocking(False)
        if os.path.exists("control"):
            os.unlink("control")
        self.control.bind("control")
        self.poll.register(self.control.fileno(), select.POLLIN)
        self.woken, waker = os.pipe()
        for end in (self.woken, waker):
            os.set_blocking(end, False)
        self.leftovers = Leftovers(
            cgroups=child.cgroups, stuck_seconds=self.launch.stuck, woken=self.woken, reap=self.reap
        )
        _signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        _signal.signal(SIGCHLD, lambda *_: None)
        for number in (SIGHUP, SIGINT, SIGTERM):  # meant for the agent, or for its whole service
            _signal.signal(number, _signal.SIG_IGN)
        self.poll.register(self.woken, select.POLLIN)

    def run(self) -> None:
        self.look()  # a request that came before our socket did
        if self.reason:
            self.child.dismiss()
        else:
            self.start()
        if self.pid:
            self.ring()
            while self.status is None and not self.leftovers.stuck():
                self.turn()
            self.leftovers.end()
            self.drain()
        self.finish()
        self.leftovers.outlast()

    def start(self) -> None:
        # What the next agent needs to end the job should we be killed, and the mark that user code
        # may have run: both before it does.
        write_file("cgroup", os.fsencode("\n".join(self.child.cgroups)))
        write_file("running", b"%d" % os.getpid())
        self.machine_kills = machine_oom_kills()
        problem = self.child.release(self.folder, self.secrets)
        self.secrets = b""
        if problem:
            os.waitpid(self.child.pid, 0)
            self.reason, self.detail = "start", problem
            return
        self.pid = self.child.pid
        self.started_at = now()
        if self.launch.time_limit:
            self.deadline = self.started_at + self.launch.time_limit
        for stream, pipe in zip(self.streams, (self.child.stdout, self.child.stderr)):  # noqa: B905
            stream.pipe = pipe
            stream.open = True

    # While it runs

    def turn(self) -> None:
        """Wait for something to happen, and answer it."""
        copied = False
        for descriptor, _ in self.poll.poll(self.wait_ms()):
            if descriptor == self.woken:
                empty(descriptor)
                self.reap()
            elif descriptor == self.control.fileno():
                try:
                    while True:
                        self.control.recv(64)
                except OSError:
                    pass
                self.look()
            else:
                for stream in self.streams:
                    if stream.pipe == descriptor:
                        copied = self.copy(stream) or copied
        moment = now()
        if copied:
            if moment - self.copied_at < GATHER_SECONDS:
                # Unbuffered scripts write line by line: waking for each would cost more than the line.
                time.sleep(GATHER_SECONDS)
                moment = now()
            self.copied_at = moment
        if self.ring_at and moment >= self.ring_at:
            self.ring()
        self.enforce(moment)

    def wait_ms(self) -> float:
        moment = now()
        until = moment + LOOK_SECONDS
        blocked = self.blocked()
        if blocked:
            until = moment + BLOCKED_POLL_SECONDS
        for stream in self.streams:
            wanted = stream.open and not blocked
            if wanted != stream.polled:
                if wanted:
                    self.poll.register(stream.pipe, select.POLLIN)
                else:
                    self.poll.unregister(stream.pipe)
                stream.polled = wanted
        for moment_due in (
            self.ring_at,
            self.stage_ends,
            0.0 if self.stage else self.deadline,
            0.0 if self.stage == 3 else self.lease_ends,
        ):
            if moment_due:
                until = min(until, moment_due)
        if self.lease_ends:
            until = min(until, moment + LEASE_LOOK_SECONDS)
        return max(0.0, (until - moment) * 1000 + 0.5)

    def blocked(self) -> bool:
        """Whether the spools are too far ahead of what was shipped; the pipe then holds the job back."""
        total = self.streams[0].size + self.streams[1].size
        if total - self.shipped <= self.launch.backlog or self.stage:
            return False
        self.shipped = sum(int(word) for word in read("shipped").split())
        return total - self.shipped > self.launch.backlog

    def copy(self, stream: Stream) -> bool:
        """Keep what the pipe holds, up to one piece; False when it is empty or at its end."""
        try:
            data = os.read(stream.pipe, PIECE_BYTES)
            if data and not data.endswith(b"\n"):
                data += rest_of_line(stream.pipe, PIECE_BYTES)
        except BlockingIOError:
            return False
        if not data:
            stream.open = False
            if stream.polled:
                self.poll.unregister(stream.pipe)
                stream.polled = False
            return False
        try:
            if stream.keep(data):
                self.ring()
        except OSError as error:
            self.detail = self.detail or f"its output could not be kept: {error.strerror}"
            self.stop("disk", at_once=True)
            self.ring()
        return True

    def look(self) -> None:
        """Read the agent's requests; its datagram only says that there may be one."""
        words = os.fsdecode(read("stop")).split()
        if words:
            self.reap()
            if self.pid == 0 or self.status is None:
                for word in words[1:]:
                    key, _, value = word.partition("=")
                    if self.stage:
                        break  # what a stop under way began with stays
                    if key == "signal":
                        self.first = int(value)
                    elif key == "grace":
                        self.grace = float(value)
                self.stop(words[0], at_once="now" in words)
        self.read_lease()

    def read_lease(self) -> None:
        self.lease_ends = float(read("lease") or 0)
        if self.lease_ends and now() >= self.lease_ends:
            self.stop("lease_expired", at_once=True)

    def enforce(self, moment: float) -> None:
        if self.status is not None:
            return
        if self.deadline and moment >= self.deadline and not self.stage:
            self.stop("time_limit")
        if self.lease_ends and moment >= self.lease_ends and self.stage < 3:
            self.read_lease()  # it may have been renewed
        if self.stage and moment >= self.stage_ends:
            self.climb(moment)

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """Begin to end the job; `at_once` without asking it first. The first reason counts."""
        self.reason = self.reason or reason
        if self.pid and self.status is None:
            if at_once and self.stage < 3:
                self.stage = 2
                self.climb(now())
            elif not self.stage:
                self.climb(now())

    def climb(self, moment: float) -> None:
        """The next rung: interrupt, or what was asked for instead, terminate, kill."""
        first = not self.stage
        self.stage = min(3, self.stage + (2 if first and self.first == SIGTERM else 1))
        if self.stage < 3:
            number = self.first if first else SIGTERM
            # Whatever does not expect these is ended by them: helpers of the script would be.
            send = signal_one if number in (SIGUSR1, SIGUSR2) else signal_group
            send(self.pid, number)
            grace = self.launch.grace[self.stage - 1]
            self.stage_ends = moment + (self.grace if first and self.grace is not None else grace)
        else:
            self.leftovers.kill(self.pid)
            self.stage_ends = moment + KILL_AGAIN_SECONDS

    # The end

    def reap(self) -> bool:
        """Collect ended processes, orphans too. False when no descendant is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status = status

    def drain(self) -> None:
        for stream in self.streams:
            while stream.open and self.copy(stream):
                pass
            self.detail = self.detail or stream.finish()

    def finish(self) -> None:
        code, signal = None, None
        if self.status is not None:
            if os.WIFSIGNALED(self.status):
                signal = os.WTERMSIG(self.status)
            else:
                code = os.WEXITSTATUS(self.status)
        reason, hints = self.reason, [self.detail]
        if self.pid:
            machine_kills = machine_oom_kills() - self.machine_kills
            reason, more = account(
                reason, code, signal, self.child.cgroups, machine_kills=machine_kills, disk=self.launch.cwd
            )
            hints += [*more, self.leftovers.described()]
        seconds = now() - self.started_at if self.started_at else 0.0
        fields = (
            ("reason", reason),
            ("exit_code", "" if code is None else str(code)),
            ("signal", "" if signal is None else str(signal)),
            ("stdout", str(self.streams[0].size)),
            ("stderr", str(self.streams[1].size)),
            ("stdout_omitted", str(self.streams[0].omitted)),
            ("stderr_omitted", str(self.streams[1].omitted)),
            ("seconds", f"{seconds:.3f}"),
            ("survivors", self.leftovers.names()),
            ("detail", "\n".join(filter(None, hints)).replace("\0", "")[:1500]),
        )
        data = b"".join(os.fsencode(f"{key}={value}") + b"\0" for key, value in fields)
        while True:
            try:
                for stream in self.streams:
                    if stream.size:
                        os.fsync(stream.spool)  # the record promises these bytes
                os.pwrite(self.record, data.ljust(RECORD_ROOM_BYTES, b"\0"), 0)
                os.fsync(self.record)
                os.rename("exit.new", "exit")
                break
            except FileNotFoundError:
                break  # somebody removed the folder: there is nobody to tell
            except OSError:
                time.sleep(1.0)  # nobody can be told otherwise: wait for the disk
        self.ring()
        for _ in range(LAST_RINGS):
            if not self.ring_at:
                break
            time.sleep(RING_AGAIN_SECONDS)
            self.ring()

    def ring(self) -> None:
        """Tell the agent that there is news. Nobody listening is fine: the next agent looks by itself."""
        self.ring_at = 0.0
        try:
            self.bell.sendto(self.name, DOORBELL)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                self.ring_at = now() + RING_AGAIN_SECONDS
