"""Commands as people run them on a host with services: as a reader of frames, from any directory, by either name."""

import json
import subprocess

import pytest
import simplejpeg

from tests.support.site import CAMERAS, Site
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(180),
]

CODE = CAMERAS[0]
COMMANDS = (
    "framesrv ls",
    "framesrv top",
    "framesrv check",
    "framesrv decode cam-1",
    "framesrv retry cam-1",
    "framesrv probe cam-1",
    "framesrv discover --seconds 0.1",
    "framesrv start cam-1",
    "framesrv stop cam-1",
    "framesrv restart cam-1",
    "framesrv logs cam-1",
    "framesrv units install",
    "framesrv units sync",
    "framesrv units status",
    "framesrv units sweep",
    "framesrv units remove",
    "framesrv snapd grab cam-1 -o /tmp/x.jpg",
    "framesrv up",
    "framesrv demo --seconds 0.1",
    "snapd run",
    "snapd grab cam-1 -o /tmp/x.jpg",
    "snapd request cam-1",
    "snapd queue",
    "snapd dead",
    "snapd check",
)


@pytest.fixture(autouse=True)
def reader(site: Site) -> str:
    """A member of the frames' group."""
    site.settle()
    site.host.path("/etc/sysusers.d/test.conf").write_text("u reader -\nm reader framesrv\n")
    site.host.must("systemd-sysusers", "/etc/sysusers.d/test.conf")
    return "reader"


def test_reader_of_frames_lists_and_grabs_whatever_they_are_called(site: Site, reader: str) -> None:
    site.write([{"code": CODE, "source": site.rtsp[CODE].url(CODE)}], shm={"prefix": "edge"})
    site.sync()
    said = site.host.run("framesrv", "ls", "--json", user=reader)
    assert [(row["code"], row["state"]) for row in json.loads(said.stdout)] == [(CODE, "live")]
    assert "cannot be read: Permission denied" in said.stderr
    site.host.must("snapd", "grab", CODE, "-o", "/tmp/now.jpg", user=reader)
    assert simplejpeg.decode_jpeg_header(site.host.path("/tmp/now.jpg").read_bytes())[:2] == (360, 640)
    top = site.host.run("timeout", "3", "framesrv", "top", user=reader).stdout
    assert f"{CODE}  live" in top
    # nor does it matter which of the files it is that they may not read
    main, password = (site.host.path(f"/etc/framesrv/{name}") for name in ("framesrv.toml", "password"))
    password.write_text("x")
    password.chmod(0o600)
    main.write_text(main.read_text() + 'user = "viewer"\npassword_file = "password"\n')
    for file in (main, site.host.path("/etc/framesrv/framesrv.env")):
        file.chmod(0o644)
    site.host.must("snapd", "grab", CODE, "-o", "/tmp/now.jpg", user=reader)
    assert "live" in site.host.must("framesrv", "ls", user=reader)
    # what they name themselves is not passed over
    for file in (main, site.host.path("/etc/framesrv/framesrv.env")):
        file.chmod(0o600)
    named = ("--config", "/etc/framesrv/framesrv.toml")
    for command in (["framesrv", "decode", CODE], ["snapd", "queue"], ["snapd", "grab", CODE, "-o", "/tmp/x.jpg"]):
        done = site.host.run(*command, *named, user=reader)
        assert (done.returncode, "is not readable" in done.stderr) == (2, True)


@pytest.mark.parametrize("directory", ["gone", "locked"])
def test_no_command_ends_with_a_traceback_wherever_it_is_run(site: Site, reader: str, directory: str) -> None:
    """In a directory that was deleted, or that its user may not enter."""
    host = site.host
    number = host.must("id", "-u", reader).strip()
    identity = f"setpriv --reuid={number} --regid={number} --init-groups"
    enter = {
        "gone": "mkdir -p /tmp/gone && cd /tmp/gone && rmdir /tmp/gone",
        "locked": "mkdir -p -m 0700 /root/locked && cd /root/locked",
    }[directory]
    script = "\n".join(f"echo; echo '# {one}'; timeout 5 {identity} {one}; echo $?" for one in COMMANDS)
    done = host.run("sh", "-c", f"{enter} && {{ {script}\n}} 2>&1 | tr -d '\\000'", timeout=170)
    told = done.stdout.encode("utf-8", "replace").decode()
    assert told.count("# ") >= len(COMMANDS), told
    assert "Traceback" not in told, told
    assert host.run("sh", "-c", f"{enter} && {identity} framesrv ls --json").returncode == 0
    grabbed = host.run("sh", "-c", f"{enter} && {identity} framesrv snapd grab {CODE} -o /tmp/{directory}.jpg")
    assert (grabbed.returncode, "640x360" in grabbed.stdout) == (0, True)


def in_directory(site: Site, *command: str) -> "subprocess.CompletedProcess[str]":
    return site.host.run("sh", "-c", 'mkdir -p /srv/here && cd /srv/here && exec "$@"', "sh", *command)


def test_file_that_hides_that_of_the_host_is_said_by_each_command(site: Site) -> None:
    in_directory(site, "true")
    file = site.host.path("/srv/here/framesrv.toml")
    file.write_text('[[camera]]\ncode = "here"\nsource = "test:64x48@1"\n')
    try:
        for command in (["framesrv", "ls"], ["framesrv", "check"], ["snapd", "queue"], ["snapd", "check"]):
            said = in_directory(site, *command).stderr.splitlines()
            told = f"{command[0]}: ./framesrv.toml is used, not /etc/framesrv/framesrv.toml: "
            assert [line.startswith(told) for line in said].count(True) == 1, said
        assert "here" in in_directory(site, "framesrv", "ls").stdout
        assert "./framesrv.toml" not in in_directory(site, "framesrv", "ls", "--config", "framesrv.toml").stderr
        assert "is used" not in in_directory(site, "env", "FRAMESRV_CONFIG=framesrv.toml", "framesrv", "ls").stderr
        assert "is used" not in in_directory(site, "framesrv", "units", "status").stderr
    finally:
        file.unlink()
    assert "is used" not in in_directory(site, "framesrv", "ls").stderr


def test_snapd_is_reached_by_either_name(site: Site) -> None:
    host = site.host
    assert host.must("framesrv", "snapd", "--version") == host.must("snapd", "--version")
    assert host.must("framesrv", "snapd", "grab", "--help") == host.must("snapd", "grab", "--help")
    queue = [json.loads(host.must(*words, "queue", "--json")) for words in (["framesrv", "snapd"], ["snapd"])]
    assert queue[0].keys() == queue[1].keys()
    assert host.run("framesrv", "snapd", "nonsense").returncode == 2
    for name in ("framesrv", "snapd"):  # as the documents link them
        host.must("ln", "-sf", f"/opt/framesrv/bin/{name}", f"/srv/{name}")
        assert host.must(f"/srv/{name}", "--version") == host.must(name, "--version")


def test_configuration_in_several_files_is_applied_as_one(site: Site) -> None:
    host = site.host
    directory = host.path("/etc/framesrv/conf.d")
    directory.mkdir()
    try:
        file = directory / "hall.toml"
        file.write_text(f'[[camera]]\ncode = "hall"\nsource = "{site.rtsp[CODE].url(CODE)}"\n')
        edited = "/etc/framesrv/framesrv.toml or a file beside it is edited, not applied: framesrv units sync"
        assert edited in host.run("framesrv", "ls").stderr
        assert "start    framesrv@hall.service" in site.sync()
        host.wait_for(lambda: site.is_live("hall"), "it is live")
        assert host.run("framesrv", "ls").stderr == ""
        assert site.sync().startswith("nothing to do")
        file.write_text(f'[[camera]]\ncode = "{CODE}"\nsource = "x"\n[store]\nbucket = "b"\n')
        refused = host.run("framesrv", "units", "sync")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 2)
        for said in (
            "conf.d/hall.toml: store.bucket: also set in /etc/framesrv/framesrv.toml (line ",
            f"{CODE} is al",
        ):
            assert said in refused.stderr
        assert site.is_live("hall")
    finally:
        host.must("rm", "-r", "/etc/framesrv/conf.d")
    assert "stop     framesrv@hall.service" in site.sync()


def test_password_in_a_file_goes_to_its_decoder_alone(site: Site) -> None:
    host = site.host
    host.path("/etc/framesrv/password").write_text("hunter2/#x\n")
    host.path("/etc/framesrv/password").chmod(0o644)
    cameras = [{"code": code, "source": site.rtsp[code].url(code)} for code in CAMERAS]
    cameras[0] |= {"user": "viewer", "password_file": "password"}
    site.write(cameras)
    done = host.run("framesrv", "units", "sync")
    assert done.returncode == 0
    warning = (
        "Everybody on this host can read the passwords in /etc/framesrv/password: chmod o-r /etc/framesrv/password"
    )
    assert warning in done.stderr
    checked = host.run("framesrv", "check")
    assert warning in checked.stderr
    assert "can read the passwords in /etc/framesrv/password" in checked.stdout
    host.wait_for(lambda: site.is_live(CODE), "it is live")
    copies = host.path("/etc/framesrv/applied").rglob("*.*")
    assert [copy.name for copy in copies if "hunter2" in copy.read_text()] == [f"{CODE}.json"]
    for said in (
        host.must("framesrv", "logs", "-n", "100000"),
        host.must("framesrv", "units", "status"),
        done.stdout,
    ):
        assert "hunter2" not in said
    host.path("/etc/framesrv/password").chmod(0o600)
    assert host.run("framesrv", "check").stderr == ""
    host.path("/etc/framesrv/password").write_text("another\n")
    assert f"restart  framesrv@{CODE.replace('-', chr(92) + 'x2d')}.service  (its settings differ)" in site.sync()
