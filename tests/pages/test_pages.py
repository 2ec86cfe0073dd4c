"""What snapd shows over HTTP: cameras, pictures, health; and how it starts, changes and ends."""

import json
import os
import signal
import socket
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from framesrv import Stamp
from framesrv.segment.status import CameraStatus
from tests.pages.painting import painting, repaint
from tests.support.edge import Edge, wait_until, write_config
from tests.support.http_server import Fault
from tests.support.pages import Shown, Viewer, environment_of, shown
from tests.support.processes import Program, alive, descendants, run, wait_for
from tests.support.service_manager import Manager


def test_cameras_are_those_that_ls_shows(pages: Shown) -> None:
    # No frame comes any more, and so nothing changes between the two looks.
    wait_for(lambda: all(camera["state"] in ("stalled", "down") for camera in pages.json("/cameras")), "all rest")
    listed = json.loads(run("framesrv", "ls", "--json", "--config", pages.config).stdout)
    found = pages.json("/cameras")
    assert [camera["code"] for camera in found] == ["cam01", "cam02", "cam03", "down"]
    for camera in (*listed, *found):
        assert camera.keys() == CameraStatus("x", "down").to_json().keys()
        del camera["age_s"]
    assert found == listed


def test_picture_is_the_newest_frame_and_says_which(pages: Shown) -> None:
    before = time.time()
    repaint(pages.edge.writers["cam01"])
    response = pages.get("/cameras/cam01.jpg?width=320&quality=40&max_age=60")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "image/jpeg")
    assert simplejpeg.decode_jpeg_header(response.content)[:2] == (240, 320)
    assert response.headers["X-Frame-Seq"] == "2"
    assert before <= float(response.headers["X-Frame-Captured-At"]) <= time.time()
    assert 0 <= float(response.headers["X-Frame-Age"]) < 60
    assert simplejpeg.decode_jpeg_header(pages.get("/cameras/cam01.jpg").content)[:2] == (480, 640)


def test_picture_has_the_proportions_that_the_frame_tells(pages: Shown) -> None:
    planes = [np.full(shape, 100, np.uint8) for shape in ((480, 640), (240, 320), (240, 320))]
    pages.edge.writers["cam01"].write(planes, Stamp.now(480)._replace(sample_aspect_ratio=Fraction(4, 3)))
    for query, size in (("", (480, 853)), ("&width=320", (180, 320)), ("&width=800", (450, 800))):
        response = pages.get(f"/cameras/cam01.jpg?max_age=60{query}")
        assert simplejpeg.decode_jpeg_header(response.content)[:2] == size


def test_part_of_a_picture_is_another_picture(pages: Shown) -> None:
    encoded = pages.metric("snapd_page_pictures_total")
    queries = ("crop=0,0,320,480", "crop=320,0,320,480", "crop=320,0,320,480&width=160", "overlay=1", "overlay=0")
    responses = [pages.get(f"/cameras/cam01.jpg?{query}") for query in queries]
    sizes = [simplejpeg.decode_jpeg_header(response.content)[1::-1] for response in responses]
    assert sizes == [(320, 480), (320, 480), (160, 240), (640, 480), (640, 480)]
    assert len({response.headers["ETag"] for response in responses}) == 5
    assert pages.metric("snapd_page_pictures_total") == encoded + 5
    assert b"Exif" in responses[0].content


def test_poll_of_an_unchanged_frame_is_a_304_and_encodes_nothing(pages: Shown) -> None:
    etag = pages.get("/cameras/cam01.jpg").headers["ETag"]
    encoded = pages.metric("snapd_page_pictures_total")
    for _ in range(5):
        response = pages.get("/cameras/cam01.jpg", If_None_Match=etag)
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["X-Frame-Seq"] == "1"
    assert pages.metric("snapd_page_pictures_total") == encoded
    assert pages.get("/cameras/cam01.jpg?width=320", If_None_Match=etag).status_code == 200
    repaint(pages.edge.writers["cam01"])
    response = pages.get("/cameras/cam01.jpg", If_None_Match=etag)
    assert (response.status_code, response.headers["X-Frame-Seq"]) == (200, "2")


def test_many_who_ask_for_one_frame_cost_one_picture(pages: Shown) -> None:
    pages.get("/cameras/cam01.jpg?quality=30")
    before = pages.metric("snapd_page_pictures_total")
    repaint(pages.edge.writers["cam01"])
    threads = [threading.Thread(target=pages.get, args=("/cameras/cam01.jpg?quality=31",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pages.metric("snapd_page_pictures_total") == before + 1


@pytest.mark.parametrize(
    "path",
    [
        "/cameras/other.jpg",
        "/cameras/other.mjpeg",
        "/cameras/..%2f..%2fetc%2fpasswd.jpg",
        "/cameras/%2e%2e.jpg",
        "/cameras/cam01%00.jpg",
        "/cameras/%ff%fe.jpg",
        "/cameras/.jpg",
        "/../../etc/passwd",
        "/files/index.html",
        "/index.html",
        "//etc/passwd",
        f"/cameras/{'a' * 5000}.jpg",
    ],
)
def test_what_is_not_there_is_a_404_whatever_the_path_tries(pages: Shown, path: str) -> None:
    with socket.create_connection(("127.0.0.1", pages.port), 10) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert sock.recv(65536).startswith(b"HTTP/1.1 404 ")
    assert pages.get("/healthz").status_code == 200


def test_camera_without_a_fresh_frame_is_a_503_that_says_why_never_a_picture(pages: Shown) -> None:
    down = pages.get("/cameras/down.jpg")
    assert (down.status_code, down.headers["X-Reason"]) == (503, "absent")
    assert "camera down: there is no /dev/shm/" in down.text
    wait_until(lambda: pages.json("/cameras")[0]["state"] == "stalled")
    old = pages.get("/cameras/cam01.jpg?max_age=0.05")
    assert (old.status_code, old.headers["X-Reason"]) == (503, "stalled")
    assert "its stream stands still; the newest frame is " in old.text
    assert down.headers["Content-Type"].startswith("text/plain")


def test_picture_waits_for_a_frame_that_is_fresh_enough(edge: Edge, tmp_path: Path) -> None:
    edge.camera("cam01")
    with shown(edge, tmp_path, snapshot={"wait": 10.0}) as pages:
        timer = threading.Timer(0.5, repaint, (edge.writers["cam01"],))
        repaint(edge.writers["cam01"])
        wait_until(lambda: pages.json("/cameras")[0]["age_s"] > 0.2)
        timer.start()
        assert pages.get("/cameras/cam01.jpg?max_age=0.1").headers["X-Frame-Seq"] == "3"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("width=15", "width='15': expected a whole number from 16 to 640"),
        ("width=641", "width='641': expected a whole number from 16 to 640"),
        ("width=99999999999999999999", "from 16 to 640"),
        ("width=-1", "from 16 to 640"),
        ("width=%D9%A3%D9%A2%D9%A0", "from 16 to 640"),
        ("quality=0", "quality='0': expected a whole number from 1 to 100"),
        ("quality=101", "from 1 to 100"),
        ("quality=8.5", "from 1 to 100"),
        ("quality=", "from 1 to 100"),
        ("crop=1,2,3", "crop='1,2,3': expected x,y,w,h within 640x480 pixels, or shares of it as 0.25,0.25,0.5,0.5"),
        ("crop=600,0,100,100", "expected x,y,w,h within 640x480 pixels"),
        ("crop=0.5,0.5,0.5,0.5&width=321", "width='321': expected a whole number from 16 to 320"),
        ("overlay=yes", "overlay='yes': expected a whole number from 0 to 1"),
        ("max_age=0", "max_age='0': expected a number from 0.001 to 86400"),
        ("max_age=nan", "from 0.001 to 86400"),
        ("max_age=1e9", "from 0.001 to 86400"),
    ],
)
def test_impossible_parameter_is_a_400_that_says_what_is_possible(pages: Shown, query: str, words: str) -> None:
    response = pages.get(f"/cameras/cam01.jpg?{query}")
    assert (response.status_code, words in response.text) == (400, True), response.text


def test_nothing_can_be_sent_but_questions(pages: Shown) -> None:
    assert pages.session.post(pages.url + "/cameras", timeout=10).status_code == 405
    assert pages.session.get(pages.url + "/cameras", data=b"x" * 100_000, timeout=10).status_code == 413
    with socket.create_connection(("127.0.0.1", pages.port), 10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_every_response_is_kept_from_other_sites(pages: Shown) -> None:
    for path in ("/", "/page.js", "/cameras", "/cameras/cam01.jpg", "/other"):
        headers = pages.get(path, Origin="https://other.example").headers
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers


def test_readiness_tells_of_redis_and_of_the_store(edge: Edge, tmp_path: Path) -> None:
    with shown(edge, tmp_path) as pages:
        wait_until(lambda: pages.get("/readyz").status_code == 200)
        assert pages.get("/readyz").text == "ready\n"
        edge.camera("cam01")
        edge.cos.fault = Fault(503)
        assert edge.ask().status == "error"
        wait_until(lambda: "the store is not reachable: the last upload failed" in pages.get("/readyz").text)
        assert pages.get("/readyz").status_code == 503
        assert pages.get("/healthz").text == "ok\n"
        edge.cos.fault = None
        assert edge.ask().status == "ok"
        wait_until(lambda: pages.get("/readyz").status_code == 200)
        edge.redis_server.kill()
        try:
            wait_until(lambda: "Redis is away: " in pages.get("/readyz").text)
            assert pages.get("/readyz").status_code == 503
            assert pages.json("/overview")["well"] is False
        finally:
            edge.redis_server.start()
        wait_until(lambda: pages.get("/readyz").status_code == 200, 20)


def test_store_that_nobody_used_lately_is_asked(edge: Edge, tmp_path: Path) -> None:
    with shown(edge, tmp_path, store={"domain": "127.0.0.1:1"}) as pages:
        wait_until(lambda: "the store is not reachable: bucket" in pages.get("/readyz").text, 30)


def test_overview_shows_the_last_requests_with_their_stages(pages: Shown) -> None:
    edge = pages.edge
    assert edge.ask().status == "ok"
    assert edge.ask(camera_code="down").status == "error"
    wait_until(lambda: len(pages.json("/overview")["requests"]) == 2)
    newest, first = pages.json("/overview")["requests"]
    assert (first["camera"], first["ok"], newest["ok"]) == ("cam01", True, False)
    assert newest["message"] == "摄像头流未连接: down"
    assert [name for name, _ in first["stages"]] == [
        *("queued", "waiting", "converting", "encoding", "uploading", "callback")
    ]


def test_termination_ends_streams_at_once_and_exits_with_0(pages: Shown) -> None:
    with painting(pages.edge.writers["cam01"], 10), Viewer(pages, "/cameras/cam01.mjpeg") as viewer:
        viewer.next()
        pid = pages.pid
        pages.program.process.send_signal(signal.SIGTERM)
        assert viewer.ends(3)
        assert pages.program.process.wait(60) == 0
    assert not alive(pid)
    assert "ERROR" not in pages.program.output


def test_reload_shows_the_new_camera(pages: Shown) -> None:
    pages.edge.camera("new")
    assert pages.get("/cameras/new.jpg").status_code == 200  # it has a segment
    pages.edge.writers.pop("new").close()
    wait_until(lambda: pages.get("/cameras/new.jpg").status_code == 404)
    pages.reload("new", http={"listen": "127.0.0.1:0"})
    wait_until(lambda: pages.json("/cameras")[-1]["code"] == "new")
    assert pages.get("/cameras/new.jpg").status_code == 503
    pages.reload(http={"listen": "127.0.0.1:0"})
    wait_until(lambda: pages.json("/cameras")[-1]["code"] == "down")


def test_change_of_access_needs_a_restart_and_says_so(pages: Shown) -> None:
    pages.reload(http={"listen": "127.0.0.1:0", "token": "0123456789abcdef"})
    wait_for(lambda: "need a restart keys=http.token" in pages.program.output, "it is said")
    assert pages.get("/cameras").status_code == 200


def test_address_that_is_taken_costs_no_snapshot_and_is_tried_again(edge: Edge, tmp_path: Path) -> None:
    edge.camera("cam01")
    with Manager(tmp_path / "notify") as manager, socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        config = write_config(edge, tmp_path / "framesrv.toml", http={"listen": listen})
        log = tmp_path / "snapd.log"
        with Program("snapd", "run", "--config", config, log=log, environment=manager.environment) as program:
            words = f"ages cannot listen on {listen}: Address already in use"
            wait_for(lambda: words in program.output, "an error")
            assert edge.ask().status == "ok"
            wait_for(lambda: manager.statuses and words in manager.statuses[-1], "a status")
            other.close()
            pages = Shown(program, config, edge)
            wait_until(lambda: pages.get("/healthz").status_code == 200)
            wait_for(lambda: words not in manager.statuses[-1], "a status without it")
            assert program.output.count(words) == 1
            assert program.stop() == 0


def test_killed_pages_come_back_and_no_count_is_lost(pages: Shown) -> None:
    edge, pid = pages.edge, pages.pid
    assert edge.ask().status == "ok"
    wait_until(lambda: pages.metric("snapd_requests_total", result="ok", reason="") == 1)
    os.kill(pid, signal.SIGKILL)
    assert edge.ask().status == "ok"
    wait_for(lambda: "Pages are started anew" in pages.program.output, "the word")
    wait_until(lambda: pages.metric("snapd_requests_total", result="ok", reason="") == 2)
    assert pages.pid != pid


def test_pages_end_when_snapd_is_killed(pages: Shown) -> None:
    pid = pages.pid
    pages.program.process.kill()
    wait_until(lambda: not alive(pid))


def test_pages_are_told_no_secret_that_they_do_not_need(edge: Edge, tmp_path: Path) -> None:
    secrets = {"FRAMESRV_STORE__SECRET_KEY": edge.cos.secret_key, "FRAMESRV_RESULT__SIGNING_SECRET": "whsec_c2VjcmV0"}
    with shown(edge, tmp_path, environment=secrets) as pages:
        wait_until(lambda: pages.get("/healthz").status_code == 200)
        assert "FRAMESRV_STORE__SECRET_KEY" in environment_of(pages.program.pid)
        assert "FRAMESRV_" not in environment_of(pages.pid)


def test_without_an_address_nothing_listens_and_nothing_is_started(edge: Edge, tmp_path: Path) -> None:
    edge.camera("cam01")
    config = write_config(edge, tmp_path / "framesrv.toml")
    with Program("snapd", "run", "--config", config, log=tmp_path / "log") as program:
        assert edge.ask().status == "ok"
        assert descendants(program.pid) == []
        assert "Pages" not in program.output
