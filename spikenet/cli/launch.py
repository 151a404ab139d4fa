"""The processes of a run on several devices: torchrun's agent starts them, stops them and says why one failed."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from spikenet.errors import RunError

_INTERRUPTED = 130


def launch(folder: Path, devices: int) -> None:
    """Train the run in `folder` by as many processes as devices, each of which goes on with it.

    Raises:
        KeyboardInterrupt: Ctrl-C reached this process or one of them.
        RunError: one of them failed; its reason.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with TemporaryDirectory() as logs, _quiet():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices,
            run_id=folder.name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(logs),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "spikenet", "train", "--resume", str(folder))
        except SignalException:
            raise KeyboardInterrupt("interrupted") from None
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode == _INTERRUPTED:
                raise KeyboardInterrupt(failure.message) from None
            raise RunError(f"process {rank} of {devices} ended with {failure.exitcode}: {failure.message}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """The agent's log says again, at length, what the errors say; torch remarks that no parameter was without use."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def leave_word(reason: str) -> None:
    """Leave the reason of this process's end where the agent that started it reads it."""
    word = {"message": reason, "timestamp": int(time.time())}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(word))
