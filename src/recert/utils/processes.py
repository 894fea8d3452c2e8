"""Work in processes of its own: ended with the first one, by Ctrl-C or however that ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from recert.errors import RecertError

T = TypeVar("T")


def in_processes(
    work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], processes: int
) -> Iterator[T]:
    """What ``work`` answers for each job, in their order, from fresh processes.

    Args:
        work: a function of a module.
        jobs: its arguments, job by job; they and the answers are pickled.
        processes: at once, at least 1.

    Raises:
        RecertError: a process was ended from outside, for example for want of memory.
        Exception: whatever ``work`` raises.
    """
    others = set(multiprocessing.active_children())
    # Fresh processes: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(
        min(processes, len(jobs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_end_with_parent,
    )
    try:
        with _interrupts_ignored():
            futures = [pool.submit(work, *job) for job in jobs]
        for future in futures:
            yield future.result()
    except BrokenProcessPool:
        raise RecertError(
            "a process that trains was ended from outside, perhaps for want of memory; free some "
            "and run it again"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()


def _end_with_parent() -> None:
    """Let this process end as soon as the one that began it has."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes begun meanwhile leave Ctrl-C to the first one, which ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
