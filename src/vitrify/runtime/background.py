"""Runs on other threads, and the callbacks that they end with."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .threads import available_cpus

_pool: list[ThreadPoolExecutor] = []
os.register_at_fork(after_in_child=_pool.clear)  # a child has none of the threads


def submit(run: Callable[[], list[Any]], callback: Callable[[list[Any], Any, str], object], user_data: Any) -> None:
    """Calls ``callback(results, user_data, error)`` on another thread once ``run`` is over."""
    if not _pool:
        _pool.append(ThreadPoolExecutor(max(available_cpus(), 1), thread_name_prefix="vitrify"))

    def work() -> None:
        try:
            results, error = run(), ""
        except Exception as raised:  # noqa: BLE001  # whatever it is, the callback is told
            results, error = [], f"{type(raised).__name__}: {raised}"
        callback(results, user_data, error)

    _pool[0].submit(_reported, work)


def _reported(work: Callable[[], None]) -> None:
    """What a callback raises has no caller to go to: it is shown as for any other thread."""
    import sys
    import threading

    try:
        work()
    except Exception:  # noqa: BLE001
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
