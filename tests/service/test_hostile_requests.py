"""Requests of somebody who can write to the stream and configured ill, through a real service over both stores.

Every address that this process connects to is recorded by an audit hook, below anything that could be fooled.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.cos import CosServer
from tests.support.edge import Edge, Running, wait_until
from tests.support.redis_server import RedisServer
from tests.support.wvp import WvpServer

DROPPED = "dropped"  # nobody is told
KEY = "key"  # the picture is taken; nobody is called, its result goes to the key
BAD_PATH = "cos_path 不合法"
BAD_TEXT = "请求字段编码错误"
INCOMPLETE = "请求字段不完整"
NO_CAMERA = "摄像头流未连接: "

NAMES = {
    "metadata.test": ["169.254.169.254"],
    "mixed.test": ["127.0.0.1", "169.254.169.254"],
    "six.test": ["fe80::1"],
    "mapped.test": ["::ffff:169.254.169.254"],
    "zero.test": ["0.0.0.0"],
}

URLS = """
http://169.254.169.254
http://169.254.169.254/latest/meta-data
http://169.254.0.23:80
http://2852039166
http://0xA9FEA9FE
http://0xa9.0xfe.0xa9.0xfe
http://0251.0376.0251.0376
http://169.254.43518
http://169.16689662
http://169.254.169.254.
http://[::ffff:169.254.169.254]
http://[::ffff:a9fe:a9fe]
http://[::169.254.169.254]
http://[64:ff9b::a9fe:a9fe]
http://[64:ff9b:1::a9fe:a9fe]
http://[2002:a9fe:a9fe::1]
http://[fe80::1]
http://[fe80::1%25lo]
http://[fe80::1%lo]
http://[fd00:ec2::254]
http://[ff02::1]
http://100.100.100.200
http://0.0.0.0:{port}
http://[::]:{port}
http://0:{port}
http://2130706433:{port}
http://127.1:{port}
http://224.0.0.1
http://255.255.255.255
http://metadata.test
http://METADATA.TEST
http://mixed.test:{port}
http://six.test
http://mapped.test
http://zero.test:{port}
http://169.254.169.254@127.0.0.1:{port}
http://127.0.0.1:{port}@169.254.169.254
http://user:pass@127.0.0.1:{port}
http://127.0.0.1:{port}\\@169.254.169.254
http://127.0.0.1:{port}#@169.254.169.254
http://127.0.0.1:{port}?@169.254.169.254
http://127.0.0.1:{port}/?
http://127.0.0.1:{port}/?a=b
http://127.0.0.1:{port}/#a
ftp://127.0.0.1:{port}
file:///etc/passwd
gopher://127.0.0.1:{port}/_x
javascript:alert(1)
//127.0.0.1:{port}
127.0.0.1:{port}
http:127.0.0.1:{port}
http:///127.0.0.1:{port}
http://
http://:{port}
http://127.0.0.1:0
http://127.0.0.1:99999
http://127.0.0.1:-1
http://127.0.0.1:8o
http://１６９.２５４.１６９.２５４
http://169。254。169。254
http://①⑥⑨.②⑤④.①⑥⑨.②⑤④
http://127.0.0.1:{port}/快
http://a..b
http://-
http://[::1
"""

PATHS = """
../a.jpg
a/../../b.jpg
a/..
./a.jpg
a/./b.jpg
//a.jpg
a//b.jpg
a/
..
/../etc/passwd
a\\..\\b.jpg
..\\a.jpg
e\u0301.jpg
a\u202egpj.jpg
a\u200b.jpg
a\ufeff.jpg
a\uffff.jpg
"""

CODES = """
../cam01
/dev/shm/cam01
cam01/../cam01
./cam01
CAM01
%63am01
ｃａｍ01
cam0*
cam01.jpg
"""


@dataclass(frozen=True)
class Case:
    changes: dict[str, Any]
    outcome: str


CASES = {
    **{f"url {url}": Case({"callback_url": url}, KEY) for url in URLS.split()},
    "url with a line break": Case({"callback_url": "http://127.0.0.1:{port}/\r\nX: y"}, KEY),
    "url with a tab": Case({"callback_url": "http://169.254.\t169.254"}, KEY),
    "url with a blank before it": Case({"callback_url": " http://127.0.0.1:{port}"}, KEY),
    "url with NUL": Case({"callback_url": "http://127.0.0.1:{port}/\0"}, KEY),
    "url of a megabyte": Case({"callback_url": "http://127.0.0.1:{port}/" + "a" * 1_000_000}, KEY),
    "url with a long host": Case({"callback_url": "http://" + "a." * 500}, KEY),
    "url in Latin-1": Case({"callback_url": b"http://127.0.0.1/\xe9"}, f"{KEY} {BAD_TEXT}"),
    **{f"path {path}": Case({"cos_path": path}, BAD_PATH) for path in PATHS.split()},
    "path with NUL": Case({"cos_path": "a.jpg\0.png"}, BAD_PATH),
    "path with a line break": Case({"cos_path": "a\n.jpg"}, BAD_PATH),
    "path with a line separator": Case({"cos_path": "a\u2028.jpg"}, BAD_PATH),
    "path of a blank slash": Case({"cos_path": "/"}, BAD_PATH),
    "path of 851 bytes": Case({"cos_path": "a/" * 425 + "a"}, BAD_PATH),
    "path of 852 bytes": Case({"cos_path": "快" * 284}, BAD_PATH),
    "path of a megabyte": Case({"cos_path": "a" * 1_000_000}, BAD_PATH),
    "path in GBK": Case({"cos_path": "快照.jpg".encode("gbk")}, BAD_TEXT),
    "path in UTF-16": Case({"cos_path": "快.jpg".encode("utf-16")}, BAD_TEXT),
    "path in overlong UTF-8": Case({"cos_path": b"\xc0\xae\xc0\xae/a.jpg"}, BAD_TEXT),
    "path with a surrogate": Case({"cos_path": b"a\xed\xa0\x80.jpg"}, BAD_TEXT),
    "no path": Case({"cos_path": None}, INCOMPLETE),
    **{f"code {code}": Case({"camera_code": code}, NO_CAMERA + code) for code in CODES.split()},
    "code with NUL": Case({"camera_code": "cam01\0"}, NO_CAMERA + "cam01\0"),
    "code with a line break": Case({"camera_code": "cam01\ncam02"}, NO_CAMERA + "cam01\ncam02"),
    "code with blanks": Case({"camera_code": " cam01 "}, NO_CAMERA + " cam01 "),
    "code with an escape": Case({"camera_code": "\x1b[2Jcam01"}, NO_CAMERA + "\x1b[2Jcam01"),
    "code of a megabyte": Case({"camera_code": "c" * 1_000_000}, NO_CAMERA + "c" * 64 + "…"),
    "code in Latin-1": Case({"camera_code": b"cam\xe9"}, BAD_TEXT),
    "no code": Case({"camera_code": None}, INCOMPLETE),
    "no id": Case({"request_id": None}, DROPPED),
    "empty id": Case({"request_id": ""}, DROPPED),
    "id of 129 characters": Case({"request_id": "r" * 129}, DROPPED),
    "id of a megabyte": Case({"request_id": "r" * 1_000_000}, DROPPED),
    "id with a line break": Case({"request_id": "a\nb"}, DROPPED),
    "id with NUL": Case({"request_id": "a\0b"}, DROPPED),
    "id with an escape": Case({"request_id": "\x1b]0;x\x07"}, DROPPED),
    "id that is written backwards": Case({"request_id": "a\u202eb"}, DROPPED),
    "id of bytes": Case({"request_id": b"\xff\xfe"}, DROPPED),
    "nothing at all": Case(
        dict.fromkeys(("request_id", "camera_code", "cos_path", "callback_url")) | {"x": "y"}, DROPPED
    ),
    "everything wrong": Case(dict.fromkeys(("request_id", "camera_code", "cos_path"), b"\xff"), DROPPED),
}

connected: list[Any] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        connected.append(arguments[1])


@pytest.fixture(scope="module")
def names() -> Iterator[None]:
    def getaddrinfo(name: str, *_: Any, **__: Any) -> Any:
        if name.lower() not in NAMES:
            raise socket.gaierror(f"no such name {name}")
        return [(0, 0, 0, "", (text, 0)) for text in NAMES[name.lower()]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("snapd.http.guard.getaddrinfo", getaddrinfo)
        yield


@dataclass(frozen=True)
class Scene:
    """One service that has to live through all of it; `root` is its store, if that is a directory."""

    edge: Edge
    root: Path | None

    def take_pictures(self) -> list[str]:
        """The paths of all pictures there are, relative to the store; they are removed."""
        if self.root is None:
            names = list(self.edge.cos.objects)
            self.edge.cos.objects.clear()
            return names
        files = [file for file in self.root.parent.rglob("*") if not file.is_dir()]
        names = [os.path.relpath(file, self.root) for file in files]
        for file in files:
            file.unlink()
        return names


@pytest.fixture(scope="module", params=["cos", "dir"])
def scene(
    request: pytest.FixtureRequest, redis_server: RedisServer, names: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("pictures") / "root" if request.param == "dir" else None
    with CosServer() as cos, WvpServer() as wvp, Edge(redis_server, cos, wvp) as edge:
        edge.redis.flushall()
        for code in ("cam01", "cam02"):
            edge.camera(code)
        with Running(edge.settings(store={"kind": "dir", "path": str(root)} if root else {})):
            yield Scene(edge, root)


@pytest.fixture(scope="module", autouse=True)
def _audited() -> None:
    sys.addaudithook(_audit)  # it cannot be taken away again


def keys_of(edge: Edge) -> set[bytes]:
    """Every key but those that are the service's own affair."""
    keys: Any = edge.redis.keys("*")
    return {key for key in keys if not key.startswith((b"snap:done:", b"edge_snap_"))}


def test_audit_sees_who_is_called(scene: Scene) -> None:
    fields = scene.edge.fields(callback_url="http://127.0.0.1:1")
    scene.edge.send(fields)
    scene.edge.result_by_key(fields)
    assert ("127.0.0.1", 1) in connected
    assert scene.take_pictures() == [fields["cos_path"]]


@pytest.mark.parametrize("name", CASES)
def test_hostile_request_gets_its_error_and_reaches_nothing(
    scene: Scene, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    case, edge = CASES[name], scene.edge
    fields = edge.fields(**case.changes)
    if isinstance(fields.get("callback_url"), str):
        fields["callback_url"] = fields["callback_url"].replace("{port}", str(edge.wvp.port))
    connected.clear()
    keys = keys_of(edge)
    edge.wvp.results.clear()
    edge.send(fields)
    told = case.outcome != DROPPED and not case.outcome.startswith(KEY)
    if told:
        (result,) = edge.wvp.wait(1, 30)
        assert (result.status, result.message) == ("error", case.outcome)
    wait_until(lambda: edge.pending == 0)
    assert (len(edge.wvp.results), edge.wvp.bad) == (int(told), [])
    # It wrote no key but its own.
    own = f"snap:result:{fields.get('request_id')}".encode()
    assert keys_of(edge) - keys == ({own} if case.outcome.startswith(KEY) else set())
    if case.outcome.startswith(KEY):
        content: Any = edge.redis.get(own)
        answer = json.loads(content)
        assert (answer["status"], answer.get("message", "")) == (
            ("ok", "") if case.outcome == KEY else ("error", case.outcome.partition(" ")[2])
        )
    # It called nobody.
    friends = {("127.0.0.1", port) for port in (edge.redis_server.port, edge.cos.port, edge.wvp.port)}
    assert set(connected) <= friends
    # It wrote no picture but its own, of no camera but its own, and nothing odd to the log.
    assert set(scene.take_pictures()) == ({fields["cos_path"]} if case.outcome == KEY else set())
    assert all(len(line) < 2000 and line.isprintable() for line in caplog.messages)
    # The service lives.
    assert edge.ask().status == "ok"
    assert len(scene.take_pictures()) == 1
