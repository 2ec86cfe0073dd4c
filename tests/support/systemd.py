"""A host for tests: a real systemd as PID 1 over a private root, with framesrv installed in /opt/framesrv.

The host has its own processes, files, /dev/shm and journal, and shares the loopback with the test, whose cameras,
Redis, store and platform it uses. `tests/support/systemd.sh` boots it.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from framesrv.segment.mapping import Segment
from framesrv.segment.owner import service_user
from tests.support.processes import ROOT, descendants, wait_for
from tests.support.rtsp import die_with_parent

SYSTEMD = Path("/lib/systemd/systemd")
BIN = "/opt/framesrv/bin"
PACKAGES = "/opt/packages"  # what framesrv depends on
PYTHON = "/opt/python"
HIDDEN = ("/root", "/home", "/tmp", "/var/tmp", "/run")  # services do not see these
BOOT = 30.0  # s


def obstacle() -> str:
    """Why no systemd can be booted here; empty if one can."""
    if os.geteuid() != 0:
        return "only root can boot a systemd"
    for path in (SYSTEMD, Path("/usr/bin/systemctl")):
        if not path.exists():
            return f"there is no {path}"
    for program in ("unshare", "nsenter", "setpriv", "pivot_root"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    command = ["unshare", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--fork", "mount", "-t", "tmpfs"]
    tried = subprocess.run([*command, "tmpfs", "/mnt"], capture_output=True, text=True, timeout=20, check=False)
    if tried.returncode:
        return f"namespaces cannot be made: {tried.stderr.strip()}"
    hierarchy = Path("/sys/fs/cgroup/unified") if Path("/sys/fs/cgroup/unified").is_dir() else Path("/sys/fs/cgroup")
    if not (hierarchy / "cgroup.procs").exists() or not os.access(hierarchy, os.W_OK):
        return f"{hierarchy} is no cgroup2 that can be written"
    return ""


class Host:
    """The host. `wheel` is the framesrv that is installed in it.

    With `system` it is the Debian in that directory instead, without a network and without framesrv, and sees as
    `/packages` the directory that `wheel` names.
    """

    def __init__(self, wheel: Path, system: Path | None = None) -> None:
        self._wheel = wheel
        self._system = system
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.pid = 0

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory(prefix="framesrv-host-")
        scratch = Path(self._scratch.name)
        setup = scratch / "setup"
        directories = self._own(scratch, setup) if self._system is None else [f"{self._wheel}=/packages"]
        setup.touch()
        with (scratch / "boot.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(ROOT / "tests/support/systemd.sh"), str(setup), *directories],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | ({"SYSTEM": str(self._system)} if self._system else {}),
                preexec_fn=die_with_parent,  # noqa: PLW1509  it makes one system call
            )
        try:
            self.pid = wait_for(self._init, "systemd has been started", BOOT)
            wait_for(lambda: self.run("systemctl", "is-active", "testbed.target").returncode == 0, "it is up", BOOT)
        except TimeoutError as error:
            said = (scratch / "boot.log").read_text("utf-8", "replace")
            self.__exit__(None, None, None)
            raise RuntimeError(f"systemd did not boot: {said}") from error
        return self

    def _own(self, scratch: Path, setup: Path) -> list[str]:
        """Has the wheel installed at its place; gives the directories of this host that the new one sees."""
        application, python = scratch / "framesrv", _python()
        make = [sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(application)]
        subprocess.run(make, check=True, timeout=60)
        put = [sys.executable, "-m", "pip", "--python", str(application / "bin/python"), "install", "--quiet"]
        put += ["--no-deps", "--no-index", "--root-user-action=ignore", str(self._wheel)]
        subprocess.run(put, check=True, timeout=120)
        self._at_its_place(application, python)
        # a Python that is not where it was built finds its own library so, before one of the same name
        library = (
            f"echo {python}/lib | cat - /etc/ld.so.conf >/tmp/conf\nmv /tmp/conf /etc/ld.so.conf\n/sbin/ldconfig\n"
        )
        setup.write_text(f"cp -a {application} /opt/framesrv\n" + (library if python == PYTHON else ""))
        directories = [f"{scratch}={scratch}", f"{sysconfig.get_path('purelib')}={PACKAGES}"]
        if python != sys.base_prefix:
            directories.append(f"{sys.base_prefix}={python}")
        elif not python.startswith("/usr"):
            directories.append(python)
        return directories

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            if self.pid and self._process.poll() is None:
                os.kill(self.pid, 9)  # the first of its processes: all the others go with it
            else:
                self._process.terminate()
            self._process.wait(20)
        if self._scratch is not None:
            self._scratch.cleanup()

    def run(self, *command: str, timeout: float = 120.0, user: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a program in the host, as root or another user."""
        identity = ["setpriv", f"--reuid={user}", f"--regid={self._group(user)}", "--init-groups"] if user else []
        environment = [
            "env",
            "-i",
            "--chdir=/",
            "PATH=/opt/framesrv/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL=C.UTF-8",
        ]
        enter = ["nsenter", f"--target={self.pid}", "--all", "--wd=/"]
        return subprocess.run(
            [*enter, *environment, *identity, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def must(self, *command: str, timeout: float = 120.0, user: str = "") -> str:
        """Runs a program that must succeed, and gives its output."""
        done = self.run(*command, timeout=timeout, user=user)
        assert done.returncode == 0, f"{command} -> {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def path(self, path: str) -> Path:
        """A file of the host, as the test sees it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def segment(self, code: str) -> Segment:
        """A camera's segment; FileNotFoundError if there is none."""
        return Segment.attach(str(self.path(f"/dev/shm/framesrv.{code}")), self.users().get(service_user(code), -1))

    def _group(self, user: str) -> str:
        """The number of a user's own group."""
        lines = self.path("/etc/passwd").read_text().splitlines()
        return next(line.split(":")[3] for line in lines if line.startswith(f"{user}:"))

    def users(self) -> dict[str, int]:
        """The host's users and their numbers."""
        entries = [line.split(":") for line in self.path("/etc/passwd").read_text().splitlines()]
        return {entry[0]: int(entry[2]) for entry in entries}

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.must("systemctl", "show", unit, f"--property={name}", "--value").strip()

    def status(self) -> dict[str, dict[str, Any]]:
        """`framesrv units status`, by camera; that of snapd is "snapd"."""
        rows = json.loads(self.must("framesrv", "units", "status", "--json"))
        return {row["code"] or "snapd": row for row in rows}

    def processes(self) -> list[int]:
        """The processes of snapd's user and of the decoders' users, by their numbers in the host."""
        wanted = {uid for name, uid in self.users().items() if name.startswith("framesrv")}
        found = []
        for entry in self.path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                if entry.name.isdigit() and entry.stat().st_uid in wanted:
                    found.append(int(entry.name))
        return found

    def command(self, pid: int) -> str:
        """The command line of a process; empty if it has ended."""
        try:
            return self.path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return ""

    def kill(self, unit: str, signal: str) -> None:
        """Sends a signal to a unit's process."""
        self.must("systemctl", "kill", "--kill-who=main", f"--signal={signal}", unit)

    def journal(self, unit: str) -> str:
        """What a unit has said until now, to the last line: the journal is behind on a busy machine."""
        self.must("journalctl", "--sync")
        return self.must("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def wait_for(self, condition: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
        """As `wait_for`; where it is in vain, with how the host does."""
        try:
            return wait_for(condition, what, timeout)
        except TimeoutError as error:
            units = self.run("framesrv", "units", "status").stdout
            said = self.run("journalctl", "--no-pager", "--lines=60", "--output=short-precise").stdout
            raise TimeoutError(f"{error}\n{units}\n{said}") from error

    def _init(self) -> int:
        assert self._process is not None
        if self._process.poll() is not None:
            raise TimeoutError("its script has ended")
        return next((pid for pid in descendants(self._process.pid) if _name(pid) == "systemd"), 0)

    @staticmethod
    def _at_its_place(application: Path, python: str) -> None:
        """Makes the virtual environment what it would be, had it been made in /opt/framesrv."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        interpreter = application / "bin/python"
        for name in ("python", "python3", version):
            (application / "bin" / name).unlink(missing_ok=True)
        interpreter.symlink_to(f"{python}/bin/{version}")
        (application / "bin" / "python3").symlink_to("python")
        (application / "pyvenv.cfg").write_text(f"home = {python}/bin\ninclude-system-site-packages = false\n")
        for name in ("framesrv", "snapd"):
            script = application / "bin" / name
            script.write_text(script.read_text().replace(str(application), "/opt/framesrv"))
        packages = application / "lib" / version / "site-packages"
        (packages / "dependencies.pth").write_text(f"{PACKAGES}\n")


def _python() -> str:
    """Where the host has the Python of this test."""
    hidden = any(Path(sys.base_prefix).resolve().is_relative_to(path) for path in HIDDEN)
    return PYTHON if hidden else sys.base_prefix


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def build_wheel(directory: Path) -> Path:
    """The wheel of this checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "--target=wheel", f"--directory={directory}"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60, capture_output=True)
    return next(directory.glob("*.whl"))
