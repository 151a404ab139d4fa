"""Programs whose processes are forked before anything has run, so that torch is loaded once."""

import multiprocessing.connection
import sys
from collections.abc import Callable
from typing import NoReturn


def run(work: Callable[[int, str], None], count: int) -> NoReturn:
    """`work(rank, path)` in `count` processes, path being the program's argument; exits with 0 if none failed."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work, args=(rank, sys.argv[1])) for rank in range(count)]
    for process in processes:
        process.start()
    multiprocessing.connection.wait([process.sentinel for process in processes])
    for process in processes:
        process.join(10)  # one that failed leaves the others waiting for it
        process.kill()
    sys.exit(max(abs(process.exitcode or 0) for process in processes))
