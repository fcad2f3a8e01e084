"""Jobs for child processes, which import them from here."""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

from enricher.jobs import Cancelled, Retry, SoftTimeLimitExceeded, Worker, job

MEGABYTE = 1 << 20


class ProcessWorker(Worker):
    isolation = "process"


class Where(ProcessWorker):
    @classmethod
    def perform(cls) -> dict[str, Any]:
        main = threading.current_thread() is threading.main_thread()
        return {"pid": os.getpid(), "id": job().id, "attempt": job().attempt, "main": main}


class Echo(ProcessWorker):
    @classmethod
    def perform(cls, value: Any, times: int = 1) -> Any:
        return value * times


class Prints(ProcessWorker):
    @classmethod
    def perform(cls) -> None:
        print("printed by a job")
        print("complained by a job", file=sys.stderr)
        logging.getLogger("a.library").info("logged by a job")


class Raises(ProcessWorker):
    @classmethod
    def perform(cls, what: str) -> object:
        match what:
            case "file":
                Path("/nowhere/at/all").read_bytes()
            case "retry":
                raise Retry("busy", in_seconds=7)
            case "odd":
                raise OddError(3, cause=threading.Lock())
            case "lambda":
                raise ValueError(lambda: None)
            case "exit":
                sys.exit(3)
            case "result":
                return object()
            case "local":

                class LocalError(Exception):
                    pass

                raise LocalError("nobody knows me")
        return None


class OddError(Exception):
    """It can neither be pickled nor made of its arguments."""

    def __init__(self, number: int, *, cause: object) -> None:
        super().__init__(f"odd number {number}")
        self.number = number
        self.cause = cause


class Dies(ProcessWorker):
    @classmethod
    def perform(cls, how: str) -> None:
        match how:
            case "exit":
                os._exit(3)
            case "segfault":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "connection":
                for number in range(3, 256):
                    try:
                        socket.socket(fileno=os.dup(number)).shutdown(socket.SHUT_RDWR)
                    except OSError:
                        continue
                time.sleep(600)


class Spins(ProcessWorker):
    """Runs until it is stopped; Python code, a sleep or a C call that holds the interpreter."""

    @classmethod
    def perform(cls, how: str, file: str = "") -> str:
        try:
            cls.spin(how, file)
        except SoftTimeLimitExceeded:
            return "tidy"
        except Cancelled:
            if how != "stubborn":
                raise
            time.sleep(600)
        return "never"

    @classmethod
    def spin(cls, how: str, file: str) -> None:
        if file:
            Path(file).write_text(str(os.getpid()))
        match how:
            case "python":
                while True:
                    pass
            case "sleep" | "stubborn":
                time.sleep(600)
            case "c":
                pow(7, 10**9)


class Eats(ProcessWorker):
    max_memory: ClassVar[int] = 200 * MEGABYTE

    @classmethod
    def perform(cls, megabytes: int) -> int:
        held = [bytearray(b"x" * MEGABYTE) for _ in range(megabytes)]
        if megabytes > 200:
            time.sleep(600)
        return len(held)


class StartsAnother(ProcessWorker):
    """Starts a process that outlives it, and writes both process ids."""

    @classmethod
    def perform(cls, file: str) -> None:
        other = subprocess.Popen(["sleep", "600"])
        Path(f"{file}.new").write_text(f"{os.getpid()} {other.pid}")
        Path(f"{file}.new").rename(file)
        time.sleep(600)


class EndsAnother(ProcessWorker):
    """Asks a process that it has started to end, and says how that one did."""

    @classmethod
    def perform(cls) -> int:
        with subprocess.Popen(["sleep", "600"]) as other:
            other.terminate()
            return other.wait(60)


class Steps(ProcessWorker):
    @classmethod
    def perform(cls, calls: str, last: str) -> list[Any]:
        job().progress(1, 3, "begun")
        job().log("a line from a child", size=3)
        first = job().step("first", cls.count, calls)
        job().enqueue(Echo.options(queue="low"), "a child")
        if last == "fails":
            raise LookupError("not this time")
        for done in range(2, 4):
            job().progress(done, 3)
        return [first, job().step("second", cls.count, calls)]

    @classmethod
    def count(cls, calls: str) -> int:
        with Path(calls).open("a") as file:
            file.write("x")
        return len(Path(calls).read_text())


class WaitsForCancel(ProcessWorker):
    @classmethod
    def perform(cls) -> str:
        job().progress(1)
        while not job().cancelled:
            time.sleep(0.01)
        return "told"


class Enqueues(ProcessWorker):
    """Enqueues another job at once, by its class, and waits for nothing."""

    @classmethod
    def perform(cls) -> str:
        return Echo.perform_async("at once").id


class LeavesThread(ProcessWorker):
    """Leaves a thread behind that keeps its process from ending."""

    @classmethod
    def perform(cls) -> int:
        threading.Thread(target=time.sleep, args=(600,)).start()
        return os.getpid()
