"""``framesrv check``: what is wrong, in words, before anything starts. It changes nothing."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from framesrv.camera.policy import Policy
from framesrv.camera.sources import SourceUsageError, has_packets, open_source
from framesrv.camera.sources.ffmpeg.protocols import SCHEMES
from framesrv.history.file import history_path
from framesrv.masking import shown
from framesrv.process.finding import Finding
from framesrv.segment.file import SHM_DIRECTORY, segment_path
from framesrv.segment.layout import Geometry
from framesrv.segment.owner import named_user, service_user, user_name
from framesrv.segment.status import camera_status, camera_statuses
from framesrv.settings import Camera, Settings
from framesrv.settings.sections import HIDDEN

ASSUMED = (1920, 1080)  # the size of a camera that has never been seen
USUAL = "rtsp, rtsps, http, https, rtmp, udp, v4l2, opencv, test and files"  # kinds of sources
PATIENCE = 30.0  # s for snapd's own checks
SEGMENT, HISTORY = "segment of", "history of"  # begin the names of findings about what lies in the place of those


def findings(settings: Settings) -> list[Finding]:
    """Looks at everything there is."""
    return [
        _configuration(settings),
        *sources(settings),
        *_addresses(settings),
        *_segments(settings),
        _shared_memory(settings),
        *_snapd(settings),
    ]


def _configuration(settings: Settings) -> Finding:
    where = str(settings.file) if settings.file else "no file found, defaults in force"
    if not settings.cameras:
        return Finding("configuration", 1, f"{where}: expected at least one [[camera]]")
    open_to_all = ", ".join(map(str, settings.exposed))
    warning = f"; everybody on this host can read the passwords in {open_to_all}" if open_to_all else ""
    return Finding("configuration", 0, f"{where}: {len(settings.cameras)} cameras{warning}")


def sources(settings: Settings) -> list[Finding]:
    """Cameras whose source string can never work."""
    wrong = []
    for camera in settings.streams:
        try:
            open_source(camera, Policy(camera.decode))
        except SourceUsageError as error:
            wrong.append(Finding(f"camera {camera.code}", 1, str(error)))
    return wrong


def _addresses(settings: Settings) -> list[Finding]:
    """Sources that are taken for files of this host and are not there, and schemes that look like another's."""
    wrong = []
    for camera in settings.streams:
        scheme, colon, _ = camera.source.partition(":")
        sentence = ""
        if colon and scheme.isalnum() and not scheme.isdigit():
            known = scheme.lower() in SCHEMES
            if not known and get_close_matches(scheme.lower(), SCHEMES, 1, cutoff=0.7):
                sentence = f"{scheme}: is no kind of source; usual ones are {USUAL}"
        elif camera.source != HIDDEN and _is_absent(camera.source):
            sentence = f"there is no file {shown(camera.source)}; an address begins with its scheme, as rtsp://"
        if sentence:
            wrong.append(Finding(f"camera {camera.code}", 1, sentence))
    return wrong


def _is_absent(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # of others' files nothing is known
        return False
    return False


def _segments(settings: Settings) -> list[Finding]:
    """What lies in the place of a segment, and is not its decoder's: that one may neither use nor remove it."""
    wrong = []
    places = [
        (camera, path_of(settings.shm.prefix, camera.code), what)
        for camera in settings.streams
        for path_of, what in ((segment_path, SEGMENT), (history_path, HISTORY))
    ]
    for camera, path, what in places:
        decoder = _decoder(camera.code, settings.shm.owner)
        try:
            uid = os.stat(path, follow_symlinks=False).st_uid
        except FileNotFoundError:
            continue
        # root may remove it, and where a writer lives that readers trust, this is no leftover
        state = camera_status(settings.shm.prefix, camera.code, owner=settings.shm.owner).state
        if decoder in (0, uid) or (what == SEGMENT and state != "down"):
            continue
        sentence = (
            f"{path} is in its place and belongs to {user_name(uid)}, the decoder runs as {user_name(decoder)}: "
            f"`sudo framesrv units sweep` removes it, or `sudo rm {path}`"
        )
        wrong.append(Finding(f"{what} {camera.code}", 1, sentence))
    return wrong


def _decoder(code: str, owner: str) -> int:
    """The user that the camera's decoder runs as: that which is named, its unit's, or whoever asks."""
    for name in (owner, service_user(code)):
        try:
            uid = named_user(name)
        except ValueError:
            continue
        if uid is not None:
            return uid
    return os.geteuid()


def _shared_memory(settings: Settings) -> Finding:
    """Whether all segments fit, and histories: segments there are at their size, and others at 1920x1080."""
    needed = 0
    known = {
        camera.code: camera for camera in camera_statuses(settings.shm.prefix, settings.policies, settings.shm.owner)
    }
    for camera in settings.streams:
        seen = known[camera.code]
        width, height = (seen.width, seen.height) if seen.width else ASSUMED
        needed += Geometry(width, height, camera.pixel_format, camera.slots).nbytes
        needed += camera.history_room if has_packets(camera.source) else 0
    usage = shutil.disk_usage(SHM_DIRECTORY)
    free = usage.free + sum(_present(settings, camera) for camera in settings.streams)
    sentence = (
        f"{needed} bytes needed for {len(settings.cameras)} cameras, {free} free of {usage.total} in {SHM_DIRECTORY}"
    )
    if needed > free:
        sentence += ": enlarge it (mount -o remount,size=..., or --shm-size for a container) or use fewer slots"
        sentence += " or less history" if any(camera.history for camera in settings.streams) else ""
    return Finding("shared memory", int(needed > free), sentence)


def _present(settings: Settings, camera: Camera) -> int:
    """Bytes of the camera's files that are there."""
    present = 0
    for path_of in (segment_path, history_path):
        with suppress(FileNotFoundError):
            present += Path(path_of(settings.shm.prefix, camera.code)).stat().st_size
    return present


def _snapd(settings: Settings) -> list[Finding]:
    """What snapd checks itself, run as a child: this package does not know Redis or stores."""
    config = [] if settings.file is None else ["--config", str(settings.file)]
    command = [sys.executable, "-m", "snapd", "check", "--json", *config]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        return [Finding.from_json(finding) for finding in json.loads(done.stdout)]
    except subprocess.TimeoutExpired:
        return [Finding("snapd", 1, f"its checks took longer than {PATIENCE:g} s")]
    except (ValueError, TypeError, KeyError):
        return [Finding("snapd", 1, done.stderr.strip() or f"its checks ended with status {done.returncode}")]
