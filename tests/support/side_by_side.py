"""Trials that mostly wait, at the same time."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor


def side_by_side(trials: Mapping[str, Callable[[], object]]) -> None:
    """Has each one its own thread, waits for all of them, and fails with the error of each that failed."""
    with ThreadPoolExecutor(len(trials)) as pool:
        running = {name: pool.submit(trial) for name, trial in trials.items()}
    errors = []
    for name, one in running.items():
        if error := one.exception():
            error.add_note(f"in the trial of {name}")
            errors.append(error)
    if errors:
        raise BaseExceptionGroup("side by side", errors)
