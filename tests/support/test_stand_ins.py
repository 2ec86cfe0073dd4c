"""The stand-ins themselves: what they refuse, and that real clients get on with them."""

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
import redis
import requests
from qcloud_cos import CosConfig, CosS3Client
from qcloud_cos.cos_exception import CosClientError, CosServiceError

from tests.support import ports
from tests.support.cos import CosServer, http_string, sign
from tests.support.footage import footage, read_code
from tests.support.http_server import Fault
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer
from tests.support.wvp import CALLBACK_PATH, WvpServer


@pytest.fixture
def cos() -> Iterator[CosServer]:
    with CosServer() as server:
        yield server


def sdk_client(server: CosServer, secret_key: str = "", token: str | None = None) -> CosS3Client:
    config = CosConfig(
        Region="ap-guangzhou",
        SecretId="AKIDtest",
        SecretKey=secret_key or server.secret_key,
        Token=token,
        Domain=server.domain,
        Scheme="http",
        Timeout=(1, 1),
    )
    return CosS3Client(config, retry=0)


def put(client: CosS3Client, key: str = "c1/a b.jpg", body: bytes = b"jpeg") -> None:
    client.put_object(Bucket="edge-1250000000", Body=body, Key=key, ContentType="image/jpeg")


def presigned(client: CosS3Client, key: str = "c1/a b.jpg", **options: object) -> str:
    url: str = client.get_presigned_url(Bucket="edge-1250000000", Key=key, Method="GET", **options)
    return url


def test_signature_is_what_cos_computes() -> None:
    host = "cam-1250000000.cos.ap-guangzhou.myqcloud.com"
    headers = {"x-cos-meta-cam": "c/1", "host": host, "content-type": "image/jpeg"}
    canonical = http_string("PUT", "/c1/a b.jpg", {"x": "1 2"}, headers)
    assert sign("sekret", "1700000000;1700000660", canonical) == "ddc937d7242b1b2d476b2c6e6f27c1b388430ea8"


def test_real_sdk_uploads_and_its_presigned_url_fetches(cos: CosServer) -> None:
    client = sdk_client(cos)
    for key in ("c1/a b.jpg", "摄像头/1.jpg"):
        put(client, key, b"\xff\xd8 picture")
        assert cos.objects[key].content_type == "image/jpeg"
        fetched = requests.get(presigned(client, key), timeout=2)
        assert (fetched.content, fetched.headers["content-type"]) == (b"\xff\xd8 picture", "image/jpeg")
    assert [(upload.ok, upload.status) for upload in cos.puts] == [(True, 200)] * 2


def test_wrong_secret_is_refused(cos: CosServer) -> None:
    with pytest.raises(CosServiceError) as refused:
        put(sdk_client(cos, secret_key="guess"))
    assert refused.value.get_error_code() == "SignatureDoesNotMatch"
    assert refused.value.get_status_code() == 403
    assert not cos.objects
    assert not cos.puts[0].ok


def test_tampered_expired_or_missing_signatures_get_403(cos: CosServer) -> None:
    client = sdk_client(cos)
    put(client)
    put(client, "c1/other.jpg")
    url = presigned(client)
    expired = presigned(client, Expired=-1)
    for bad in (url.replace("a%20b.jpg", "other.jpg"), url.partition("?")[0], url[:-3] + "000", expired):
        assert requests.get(bad, timeout=2).status_code == 403, bad


def test_token_is_required_where_one_is_set() -> None:
    with CosServer(token="temporary") as cos:
        with pytest.raises(CosServiceError):
            put(sdk_client(cos))
        client = sdk_client(cos, token="temporary")
        put(client)
        assert requests.get(presigned(client), timeout=2).status_code == 403
        url = presigned(client, Params={"x-cos-security-token": "temporary"})
        assert requests.get(url, timeout=2).status_code == 200


def test_faults_come_as_ordered_and_pass(cos: CosServer) -> None:
    client = sdk_client(cos)
    for fault, error in (
        (Fault(500, times=1), CosServiceError),
        (Fault("reset", times=1), CosClientError),
        (Fault("hang", times=1), CosClientError),
    ):
        cos.fault = fault
        with pytest.raises(error):
            put(client)
        put(client)
    assert [upload.status for upload in cos.puts] == [500, 200, 0, 200, 0, 200]


def test_stopped_server_answers_no_kept_connection(cos: CosServer) -> None:
    client = sdk_client(cos)
    put(client)
    cos.stop()
    with pytest.raises(CosClientError):
        put(client)
    cos.start()
    put(client)


def test_platform_keeps_results_and_judges_their_form() -> None:
    good = {"request_id": "r1", "camera_code": "cam", "status": "ok", "url": "http://x/"}
    with WvpServer(base="/wvp") as wvp:
        target = wvp.url + CALLBACK_PATH
        assert requests.post(target, json=good, timeout=2).status_code == 200
        assert requests.post(target, json={**good, "status": "error"}, timeout=2).status_code == 400
        assert requests.post(target, json={**good, "extra": "x"}, timeout=2).status_code == 400
        assert requests.post(target, data=json.dumps(good), timeout=2).status_code == 400
        assert [result.request_id for result in wvp.wait(1, timeout=1)] == ["r1"]
        assert len(wvp.bad) == 3
        with pytest.raises(TimeoutError):
            wvp.wait(2, timeout=0.05)


def test_redis_keeps_its_data_over_a_kill_only_with_its_file(tmp_path: Path) -> None:
    for appendonly in (True, False):
        with RedisServer(tmp_path / str(appendonly), appendonly=appendonly) as server:
            client = server.client()
            client.set("key", "value")
            server.kill()
            with pytest.raises(redis.ConnectionError):
                client.get("key")
            server.start()
            assert client.get("key") == ("value" if appendonly else None)
            server.stop()


def pictures(url: str, transport: str, count: int) -> Iterator[tuple[int, tuple[int, int] | None]]:
    """The width and the code of the first `count` pictures of a stream."""
    options = {"rtsp_transport": transport, "analyzeduration": "100000", "probesize": "500000"}
    with av.open(url, options=options, timeout=5) as container:
        for seen, frame in enumerate(container.decode(video=0), 1):
            yield frame.width, read_code(frame.to_ndarray(format="bgr24"))
            if seen == count:
                return


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_cameras_play_over_tcp_and_udp(codec: str, transport: str, tmp_path: Path) -> None:
    video = footage("h264" if codec == "h264" else "hevc", 1280, 720, number=5, frames=50)
    with RtspServer({"cam1": video}, tmp_path, rtcp="wall") as server:
        codes = [code for _, code in pictures(server.url("cam1"), transport, 60)]
        assert codes == [(5, index % 50) for index in range(60)]
        assert [sent.index for sent in server.sent()[:60]] == [index % 50 for index in range(60)]


def test_switch_changes_the_picture_in_mid_stream(tmp_path: Path) -> None:
    files = [
        footage(width=1280, height=720, number=1, frames=50),
        footage(width=640, height=360, number=2, frames=50),
    ]
    with RtspServer({"cam": files}, tmp_path) as server:
        seen = []
        # who reads late sees the switch late
        for number, picture in enumerate(pictures(server.url("cam"), "tcp", 1000)):
            seen.append(picture)
            if number == 5:
                server.fault("switch", "cam")
            if seen.count((640, (2, 30))):
                break
    turn = seen.index((640, (2, 0)))
    assert seen[:turn] == [(1280, (1, index % 50)) for index in range(turn)]
    assert seen[turn:] == [(640, (2, index)) for index in range(31)]


def ask(connection: socket.socket, url: str) -> bytes:
    connection.sendall(f"OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
    return connection.recv(1000)


def test_faults_of_one_camera_leave_the_other_alone(tmp_path: Path) -> None:
    video = footage(width=320, height=240)
    with RtspServer({"a": video, "b": video}, tmp_path) as server:
        playing = pictures(server.url("a"), "tcp", 10_000)
        assert next(playing) == (320, (0, 0))
        server.fault("drop", "a")
        started = time.monotonic()
        list(playing)  # ends, for the connection is gone
        assert time.monotonic() - started < 3
        with pytest.raises((av.FFmpegError, StopIteration)):
            next(pictures(server.url("a"), "tcp", 1))
        assert next(pictures(server.url("b"), "tcp", 1)) == (320, (0, 0))
        server.fault("silent", "b")
        with pytest.raises(TimeoutError):
            silence(server, "b")


def silence(server: RtspServer, name: str) -> None:
    """Ask until the fault is in effect and an answer stays away for 0.3 s; TimeoutError then."""
    while True:
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.3) as connection:
            ask(connection, server.url(name))


def test_camera_comes_back_on_its_port(tmp_path: Path) -> None:
    video = footage(width=320, height=240)
    with RtspServer({"a": video}, tmp_path) as server:
        port = server.port
        playing = pictures(server.url("a"), "tcp", 10_000)
        next(playing)
        server.stop()
        list(playing)
        server.start()
        assert server.port == port
        assert next(pictures(server.url("a"), "tcp", 1)) == (320, (0, 0))


def test_sender_reports_tell_the_wall_clock(tmp_path: Path) -> None:
    with RtspServer({"a": footage(width=320, height=240)}, tmp_path, rtcp="wall") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=3) as connection:
            stream = connection.makefile("rb")
            for method, extra in (("SETUP", "Transport: RTP/AVP/TCP;interleaved=0-1\r\n"), ("PLAY", "")):
                request = f"{method} {server.url('a')}/track0 RTSP/1.0\r\nCSeq: 1\r\n{extra}\r\n"
                connection.sendall(request.encode())
                while stream.readline() != b"\r\n":
                    pass
            while True:
                _, channel, size = struct.unpack(">BBH", stream.read(4))
                packet = stream.read(size)
                if channel == 1:
                    break
        kind, seconds = packet[1], struct.unpack(">I", packet[8:12])[0] - 2_208_988_800
        assert kind == 200
        assert abs(seconds - time.time()) < 3


def test_port_is_given_once_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second test was given the port of a Redis that began a moment later, or that was to begin again."""
    taken, free = ports.free_port(), ports.free_port()
    ports._held.pop().close()
    program = f"from tests.support import ports; ports.PORTS = [{taken}, {free}]; print(ports.free_port())"
    other = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert int(other.stdout) == free
    monkeypatch.setattr(ports, "PORTS", [taken, free])
    assert ports.free_port() == free
