"""How cameras do, in words and in order: the worst first."""

import pytest

from framesrv import CameraStatus
from framesrv.host.top.cameras import CameraHealth, HealthTracker, totals
from framesrv.host.top.screen import Screen


def test_words_of_a_camera_do_not_steer_the_terminal() -> None:
    status = CameraStatus("\x1b[2Jcam", "connecting", error="rtsp://u:hidden@h/: \x1b]0;x\x07 \n[red]no[/red]")
    (camera,) = HealthTracker().look([status], 1.0)
    assert camera.status.code == "\\x1b[2Jcam"
    assert camera.reason == r"rtsp://u:***@h/: \x1b]0;x\x07 \n[red]no[/red]"


def test_rates_are_differences_of_two_looks() -> None:
    tracker = HealthTracker()
    tracker.look([CameraStatus("cam", "live", dropped=100, corrupt=5)], 10.0)
    (camera,) = tracker.look([CameraStatus("cam", "live", dropped=103, corrupt=6)], 12.0)
    assert (camera.dropped, camera.damaged, camera.reason) == (1.5, 0.5, "drops 1.5/s, damaged 0.5/s")
    (camera,) = tracker.look([CameraStatus("cam", "live", dropped=2)], 13.0)  # its decoder began anew
    assert (camera.dropped, camera.damaged, camera.reason) == (0.0, 0.0, "")


def test_live_cameras_go_by_age_and_then_by_drops() -> None:
    def live(code: str, age: float, dropped: float = 0.0, decode: str = "all") -> CameraHealth:
        return CameraHealth(CameraStatus(code, "live", age_s=age, decode=decode), dropped)

    cameras = [
        live("b", 0.01),
        live("a", 0.04),
        live("d", 90.0, decode="demand"),
        live("e", 2.4),
        live("f", 0.02, 3.0),
    ]
    screen = Screen(cameras=cameras)
    assert [camera.status.code for camera in screen.rows] == ["e", "f", "a", "b", "d"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (CameraStatus("c", "down"), "no decoder runs"),
        (CameraStatus("c", "down", error="cannot be read: Permission denied"), "cannot be read: Permission denied"),
        (CameraStatus("c", "down", width=640, error="an old one"), "its decoder died"),
        (CameraStatus("c", "stalled", error="an old one"), "nothing comes"),
        (CameraStatus("c", "connecting"), "no picture yet"),
        (CameraStatus("c", "connecting", error="Connection refused"), "Connection refused"),
        (CameraStatus("c", "live", error="an old one"), ""),
    ],
)
def test_reason_is_that_of_the_state(status: CameraStatus, words: str) -> None:
    assert status.reason == words


def test_totals_count_what_there_is() -> None:
    assert totals([]) == "no cameras"
    assert totals([CameraHealth(CameraStatus("c", "live"))]) == "1 camera: 1 live"


def test_note_stands_above_the_keys_and_takes_no_cameras_place() -> None:
    cameras = [CameraHealth(CameraStatus(f"camera{number}", "down")) for number in range(5)]
    for note, room in (("", 5), ("edited, not applied: framesrv units sync", 4)):
        screen = Screen(note=note, cameras=cameras)
        lines = [str(line) for line in screen.rendered(80, 8, "12:00:00").renderables]
        assert len(lines) == 8
        assert sum(line.startswith("camera") for line in lines) == screen.page == room
        assert (lines[-2] == note) == bool(note)
