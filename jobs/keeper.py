"""The keeper: one small process per attempt that owns the job's processes, so that the runner may die.

Decides when an attempt ends and why: the program ended; it was told to stop and its grace is over; it is over its time,
memory or number of processes. Invariants: whatever the program started is gone before the exit record appears; the exit
record is written once, whole, into space that was reserved at the start; of several keepers for one attempt only one
runs anything (the claim); the log is read whatever happens, so a job never blocks on its output.

Runs with the standard library alone and without site-packages (`python -I -S`), single-threaded: fork is safe here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import sys
from typing import Any

from jobs import contract, processes
from jobs.clock import now
from jobs.files import claim, read_json
from jobs.logs import LogWriter

SAMPLE_S = 0.1
LEFTOVER_GRACE_S = 2.0
_KILL_ROUNDS, _KILL_WAIT_MS = 400, 5
_RECORD_BYTES = 8192
_PIPE_BYTES = 1 << 20
_CHUNK = 1 << 18
_F_SETPIPE_SZ = 1031
# A stop that is asked for replaces one that is less hard, or that leaves more time.
_HARDNESS = {contract.PREEMPT: 0, contract.EVICT: 1, contract.CANCEL: 2}
# What programs say when memory was refused to them; looked for only at the end of the log of one that failed.
_MEMORY_WORDS = (b"MemoryError", b"std::bad_alloc", b"Cannot allocate memory", b"out of memory", b"OutOfMemoryError")


class Keeper:
    """Owns one attempt from its start to its exit record."""

    def __init__(self, folder: str, launch: dict[str, Any]) -> None:
        self._folder = folder
        self._launch = launch
        self._log = LogWriter(folder, launch["log_bytes"])
        self._why: str | None = None
        self._detail = ""
        self._obeyed = (-1, 0.0)
        self._kill_at: float | None = None
        self._status: int | None = None
        self._peak = 0
        self._survivors: set[int] = set()
        self._kernel_kills = processes.kernel_kills()
        self._record = os.open(os.path.join(folder, f".{contract.EXIT}"), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        with contextlib.suppress(OSError):
            os.posix_fallocate(self._record, 0, _RECORD_BYTES)
        self._began = now()
        self._main = 0
        self._output = -1

    # ------------------------------------------------------------------ start

    def start(self) -> bool:
        """Starts the program; returns False (with the reason kept) if it cannot be started."""
        self._output, writing = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._output, _F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(self._output, False)
        failed, failure = os.pipe()
        self._main = os.fork()
        if self._main == 0:
            self._become_program(writing, failure)
        os.close(writing)
        os.close(failure)
        with open(failed, "rb") as file:
            reason = file.read(4096).decode(errors="replace")
        if reason:
            os.waitpid(self._main, 0)
            self._status, self._detail = contract.EXIT_CANNOT_START << 8, f"cannot be started: {reason}"
            self._log.write(f"sluice: {self._detail}\n".encode())
        return not reason

    def _become_program(self, output: int, failure: int) -> None:
        """Never returns: turns the forked child into the job's program."""
        try:
            os.setsid()
            processes.die_with_parent()
            launch = self._launch
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
                file.write("800")  # the kernel takes the job before the runner
            _limit(resource.RLIMIT_CORE, 0)
            if launch["file_bytes"]:
                _limit(resource.RLIMIT_FSIZE, launch["file_bytes"])
            if launch["open_files"]:
                _limit(resource.RLIMIT_NOFILE, launch["open_files"])
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(launch["folder"])
            os.execvpe(launch["argv"][0], launch["argv"], os.environ)
        except BaseException as error:
            where = getattr(error, "filename", None)
            text = f"{getattr(error, 'strerror', None) or error}" + (f": {where}" if where else "")
            os.write(failure, text.encode() or b"?")
        finally:
            os._exit(contract.EXIT_CANNOT_START)

    # ------------------------------------------------------------------ run

    def run(self) -> None:
        """Watches until the program and everything it started is gone."""
        wake, waker = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (contract.WAKE, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self._output, select.POLLIN)
        next_sample = now()
        while True:
            for handle, _ in poll.poll(max(0, int((next_sample - now()) * 1000) + 1)):
                if handle == wake:
                    os.read(wake, 4096)
                elif not self._drain(_CHUNK * 4):
                    poll.unregister(self._output)
            self._reap()
            if self._status is not None:
                break
            self._obey()
            if (at := now()) >= next_sample:
                self._sample()
                next_sample = at + SAMPLE_S
            self._check_time(at)
        self._end_leftovers()

    def _drain(self, most: int) -> bool:
        """Copies output to the log; returns False when nobody can write any more."""
        while most > 0:
            try:
                data = os.read(self._output, _CHUNK)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._log.write(data)
            most -= len(data)
        return True

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._main:
                    self._status = status

    def _obey(self) -> None:
        """Looks whether the runner has asked for a stop, or for a harder one than before."""
        stop = read_json(os.path.join(self._folder, contract.STOP))
        if stop is None or (asked := (_HARDNESS[stop["why"]], -float(stop["grace_s"]))) <= self._obeyed:
            return
        self._obeyed = asked
        if self._why is None or self._why in _HARDNESS:
            self._stop(stop["why"], str(stop.get("detail", "")), float(stop["grace_s"]))

    def _check_time(self, at: float) -> None:
        limit = self._launch["time_limit_s"]
        if limit and self._why is None and at - self._began >= limit:
            self._stop(contract.TIME_LIMIT, f"ran longer than {limit} s", self._launch["grace_s"])
        if self._kill_at is not None and at >= self._kill_at:
            self._kill()

    def _stop(self, why: str, detail: str, grace_s: float) -> None:
        """Gives notice, and arms the kill."""
        self._why, self._detail = why, detail
        self._kill_at = now() + grace_s
        if grace_s <= 0:
            self._kill()
            return
        notice = os.path.join(self._folder, contract.NOTICE)
        with contextlib.suppress(OSError), open(notice, "w", encoding="utf-8") as file:
            json.dump({"why": why, "grace_s": grace_s}, file)
        # A notice goes to the program alone: helpers (data loaders) that died of it would fail the step under way.
        targets = {self._main} if why == contract.PREEMPT else self._members()
        processes.send(targets, signal.SIGTERM)

    def _sample(self) -> None:
        """Measures memory and processes; ends what is over its limit."""
        pids = processes.children_of(os.getpid())
        known = [(pid, found) for pid in pids if (found := processes.stat(pid)) is not None]
        used = sum(found.rss for _, found in known)
        limit = self._launch["memory_bytes"]
        if limit and used > limit:
            # Shared pages were counted several times so far; count them once before anybody is killed for it.
            used = sum(processes.pss(pid) for pid, _ in known)
        self._peak = max(self._peak, used)
        if self._why == contract.OUT_OF_MEMORY:
            return
        if limit and used > limit:
            self._stop(contract.OUT_OF_MEMORY, f"used {used >> 20} MiB, may use {limit >> 20} MiB", 0)
        most = self._launch["processes"]
        if most and self._why is None and (threads := sum(found.threads for _, found in known)) > most:
            self._stop(contract.TOO_MANY_PROCESSES, f"had {threads} processes and threads, may have {most}", 0)

    # ------------------------------------------------------------------ end

    def _members(self) -> set[int]:
        # A subreaper's descendants are everybody: whoever leaves the session or loses its parent is still below us.
        return processes.below(os.getpid(), processes.everything())

    def _kill(self) -> None:
        def wait() -> None:
            select.select([], [], [], _KILL_WAIT_MS / 1000)
            self._drain(_CHUNK)
            self._reap()

        self._survivors = processes.end_all(self._members, wait, _KILL_ROUNDS)
        self._reap()

    def _end_leftovers(self) -> None:
        """The program has ended: what it left behind gets the rest of the grace, or a short one, and is killed."""
        until = self._kill_at if self._kill_at is not None else now() + LEFTOVER_GRACE_S
        if processes.living(self._members()):
            processes.send(self._members(), signal.SIGTERM)
            while now() < until and processes.living(self._members()):
                select.select([], [], [], 4 * _KILL_WAIT_MS / 1000)
                self._drain(_CHUNK)
                self._reap()
            self._kill()
        while True:
            # Everybody who could write is gone: what the pipe still holds is all there is.
            before = self._log.position + self._log.lost
            if not self._drain(_CHUNK) or self._log.position + self._log.lost == before:
                break

    def record(self) -> None:
        """Writes the exit record and makes it visible."""
        assert self._status is not None
        self._log.close()
        code = os.waitstatus_to_exitcode(self._status)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        failed_for_memory = code != 0 and any(word in self._log.tail for word in _MEMORY_WORDS)
        record = {
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "why": self._why,
            "detail": self._detail[:2000],
            "kernel_oom": code == -signal.SIGKILL and processes.kernel_kills() > self._kernel_kills,
            "said_oom": failed_for_memory,
            "seconds": round(now() - self._began, 6),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 6),
            "peak_bytes": max(self._peak, used.ru_maxrss * 1024),
            "log_bytes": self._log.position,
            "log_lost_bytes": self._log.lost,
            "survivors": sorted(self._survivors)[:20],
        }
        content = json.dumps(record).encode()
        os.pwrite(self._record, content.ljust(_RECORD_BYTES), 0)
        with contextlib.suppress(OSError):
            os.fsync(self._record)
        os.replace(os.path.join(self._folder, f".{contract.EXIT}"), os.path.join(self._folder, contract.EXIT))


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def main(folder: str) -> None:
    """Runs the attempt in `folder`, as its launch file says; the environment is the job's."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    launch = read_json(os.path.join(folder, contract.LAUNCH))
    if launch is None or not claim(os.path.join(folder, contract.CLAIM), processes.identity(os.getpid())):
        sys.exit(1)
    processes.become_subreaper()
    keeper = Keeper(folder, launch)
    if keeper.start():
        keeper.run()
    keeper.record()
