"""The machine that figures come from."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("av", "simplejpeg", "numpy")


def describe() -> dict[str, str | int]:
    """CPU, cores, Python and the packages that do the work."""
    found: dict[str, str | int] = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    return found | {package: version(package) for package in PACKAGES}


def sentence() -> str:
    """The same in one line."""
    found = describe()
    packages = ", ".join(f"{package} {found[package]}" for package in PACKAGES)
    load = os.getloadavg()[0]
    return (
        f"{found['cpu']}, {found['cores']} cores, Linux {found['kernel']}, Python {found['python']}, {packages}; "
        f"load {load:.1f} at the end"
    )


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
