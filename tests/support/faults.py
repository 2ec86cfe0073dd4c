"""Configurations with one fault each, made with a fixed seed: what is broken, and what an operator must see first."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.ports import free_port
from tests.support.site import CAMERAS, Site

SEED = 12


@dataclass
class Draft:
    """A configuration of the usual cameras, which a fault is put into."""

    site: Site
    cameras: list[dict[str, Any]]
    sections: dict[str, dict[str, Any]]
    environment: str
    rewrite: Callable[[str], str] = str  # of the file's text
    forced: bool = False  # whether sync must be told to go on
    undo: list[Callable[[], object]] = field(default_factory=list)

    @classmethod
    def well(cls, site: Site) -> "Draft":
        cos = site.cos
        cameras = [{"code": code, "source": site.rtsp[code].url(code), "timeout": 3.0} for code in CAMERAS]
        sections: dict[str, dict[str, Any]] = {
            "redis": {"url": site.redis.url},
            "stream": {"name": "edge_snap_request"},
            "store": {"region": "ap-guangzhou", "bucket": cos.bucket, "domain": cos.domain, "scheme": "http"},
            "result": {"key_ttl": 60},
            "snapshot": {"quality": 85},
            "http": {"listen": ""},
        }
        secrets = f"FRAMESRV_STORE__SECRET_ID={cos.secret_id}\nFRAMESRV_STORE__SECRET_KEY='{cos.secret_key}'\n"
        return cls(site, cameras, sections, secrets)

    def camera(self, code: str) -> dict[str, Any]:
        return next(one for one in self.cameras if one["code"] == code)

    def replace(self, old: str, new: str) -> None:
        """In the text of the file, once."""
        self.rewrite = lambda text: re.sub(re.escape(old), lambda _: new, text, count=1)


@dataclass(frozen=True)
class World:
    """What stands around the host besides its site: ports of what answers as it should not."""

    unauthorized: int
    forbidden: int
    silent: int
    sound: int
    plain: int
    taken: int


Put = Callable[[Draft, World, str, random.Random], str]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: short.
        broken: what is, for the table.
        heals: what does, for the table.
        put: puts it into a draft and gives a pattern of the first line that `framesrv health` must begin with.
        how: ``refused`` by sync before anything is touched, applied by ``sync`` or only by ``force``; ``left`` where
            nobody syncs, ``host`` where something besides the configuration is broken.
        asks: whether it shows only when somebody asks for a picture.
        of_camera: whether it may touch one camera.
    """

    name: str
    broken: str
    heals: str
    put: Put
    how: str
    asks: bool
    of_camera: bool


KINDS: list[Kind] = []


def kind(
    broken: str, how: str, *, heals: str = "mend it, `sync`", asks: bool = False, of_camera: bool = False
) -> Callable[[Put], Put]:
    def register(put: Put) -> Put:
        KINDS.append(Kind(put.__name__, broken, heals, put, how, asks, of_camera))
        return put

    return register


@dataclass(frozen=True)
class Case:
    """One of the fifty."""

    number: int
    kind: Kind
    camera: str

    @property
    def id(self) -> str:
        return f"{self.number:02}-{self.kind.name}"


def cases(count: int = 50) -> Sequence[Case]:
    """Each kind once, then what the dice say among those that are wrong in what somebody wrote."""
    dice = random.Random(SEED)
    cheap = [one for one in KINDS if one.how == "refused"]
    drawn = [*KINDS, *dice.choices(cheap, k=max(0, count - len(KINDS)))][:count]
    dice.shuffle(drawn)
    return [Case(number, one, dice.choice(CAMERAS)) for number, one in enumerate(drawn, 1)]


def config(words: str) -> str:
    return rf"impaired: configuration: .*{words}"


# -- what somebody wrote is none -----------------------------------------------------------------------------------


@kind("a key misspelt in a camera's table", "refused")
def misspelt_key(draft: Draft, _: World, code: str, dice: random.Random) -> str:
    key, wrong = dice.choice([("timeout", "timout"), ("slots", "slotz"), ("transport", "transprt")])
    draft.camera(code)[wrong] = {"timeout": 3.0, "slots": 2, "transport": "tcp"}[key]
    return config(rf"{wrong}: no such key; did you mean {key}\?.*camera {re.escape(code)}")


@kind("a section misspelt", "refused")
def misspelt_section(draft: Draft, _: World, __: str, dice: random.Random) -> str:
    name = dice.choice(["store", "stream", "redis"])
    draft.replace(f"[{name}]", f"[{name}s]")
    return config(f"{name}s: no such section")


@kind("a quotation mark missing", "refused")
def open_quote(draft: Draft, _: World, code: str, __: random.Random) -> str:
    draft.replace(f'code = "{code}"', f'code = "{code}')
    return config("not TOML: .*line [0-9]+")


@kind("a value out of its range", "refused")
def out_of_range(draft: Draft, _: World, code: str, dice: random.Random) -> str:
    key, value, wanted = dice.choice(
        [
            ("slots", 99, "a whole number from 2 to 16"),
            ("timeout", 0, "a number above"),
            ("decode", "fps:0", '"all"'),
        ]
    )
    draft.camera(code)[key] = value
    return config(rf"{key}: expected {wanted}.*camera {re.escape(code)}")


@kind("two cameras of one code", "refused")
def same_code(draft: Draft, _: World, code: str, __: random.Random) -> str:
    draft.cameras.append(draft.camera(code) | {"source": "test:320x240@5"})
    return config(f"{re.escape(code)} is also that of camera")


@kind("a camera without a source", "refused")
def no_source(draft: Draft, _: World, code: str, __: random.Random) -> str:
    del draft.camera(code)["source"]
    return config("source: expected a value")


@kind("a code that is none", "refused")
def bad_code(draft: Draft, _: World, __: str, dice: random.Random) -> str:
    draft.cameras.append({"code": dice.choice(["front door", "cam/1", ""]), "source": "test:320x240@5"})
    return config(r"camera\[3\].*code: expected")


@kind("`export` in `framesrv.env`", "refused")
def junk_in_environment(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.environment += "export FRAMESRV_STORE__TOKEN=x\n"
    return config("framesrv.env: line 3: expected FRAMESRV_SECTION__KEY=value")


@kind("a key misspelt in `framesrv.env`", "refused")
def misspelt_variable(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.environment = draft.environment.replace("SECRET_KEY", "SECRETKEY")
    return config("FRAMESRV_STORE__SECRETKEY: no such key in the environment")


@kind("the pages open to all, without a token", "refused")
def open_pages(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.sections["http"] = {"listen": "0.0.0.0:8390"}
    return config("http.listen: others than this host reach 0.0.0.0:8390: .*edited, not applied")


@kind("a store without a bucket", "refused")
def no_bucket(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    del draft.sections["store"]["bucket"]
    return config("store.bucket: expected a value")


@kind("an edit that nobody has applied", "left", heals="`sync`")
def edited(draft: Draft, _: World, code: str, dice: random.Random) -> str:
    draft.camera(code)["timeout"] = dice.choice([4.0, 5.0])
    return config("edited, not applied: framesrv units sync")


# -- a camera that gives no picture --------------------------------------------------------------------------------


def away(code: str, words: str) -> str:
    return rf"impaired: camera {re.escape(code)}: connecting.*: .*{words}"


@kind("a camera's password", "sync", of_camera=True)
def wrong_password(draft: Draft, world: World, code: str, dice: random.Random) -> str:
    password = dice.choice(["admin", "wr0ng", "p%40ss"])
    draft.camera(code)["source"] = f"rtsp://admin:{password}@127.0.0.1:{world.unauthorized}/stream1"
    return away(code, "refuses the user or the password")


@kind("a camera's user may not see the stream", "sync", of_camera=True)
def forbidden(draft: Draft, world: World, code: str, _: random.Random) -> str:
    draft.camera(code)["source"] = f"rtsp://viewer:x@127.0.0.1:{world.forbidden}/stream1"
    return away(code, "forbids it")


@kind("a camera's host name", "sync", of_camera=True)
def dead_name(draft: Draft, _: World, code: str, dice: random.Random) -> str:
    name = dice.choice(["no-such-camera.invalid", "gate.example.invalid"])
    draft.camera(code)["source"] = f"rtsp://{name}/stream1"
    return away(code, f"the host name {name} is unknown")


@kind("a camera's port", "sync", of_camera=True)
def wrong_port(draft: Draft, _: World, code: str, __: random.Random) -> str:
    port = free_port()
    draft.camera(code)["source"] = f"rtsp://127.0.0.1:{port}/{code}"
    return away(code, f"nothing listens at 127.0.0.1:{port}")


@kind("a camera's path", "sync", of_camera=True)
def wrong_path(draft: Draft, _: World, code: str, dice: random.Random) -> str:
    draft.camera(code)["source"] += dice.choice(["x", "/h265", "_sub"])
    return away(code, "(404|Not Found|not found)")


@kind("no way to a camera", "sync", of_camera=True)
def no_route(draft: Draft, _: World, code: str, __: random.Random) -> str:
    draft.camera(code)["source"] = "rtsp://[ff00::1%lo]/x"
    return away(code, "there is no way to")


@kind("a camera that accepts and says nothing", "sync", of_camera=True)
def silent(draft: Draft, world: World, code: str, _: random.Random) -> str:
    draft.camera(code)["source"] = f"rtsp://127.0.0.1:{world.silent}/x"
    return away(code, "no answer")


@kind("`rtsps://` to a plain port", "sync", of_camera=True)
def wrong_scheme(draft: Draft, world: World, code: str, _: random.Random) -> str:
    draft.camera(code)["source"] = f"rtsps://127.0.0.1:{world.plain}/x"
    return away(code, "try rtsp://")


@kind("a path that leads to sound alone", "sync", of_camera=True)
def sound_alone(draft: Draft, world: World, code: str, _: random.Random) -> str:
    draft.camera(code)["source"] = f"rtsp://127.0.0.1:{world.sound}/x"
    return away(code, "no video in it, only sound")


@kind("a file that is not there", "sync", of_camera=True)
def no_file(draft: Draft, _: World, code: str, __: random.Random) -> str:
    draft.camera(code)["source"] = "/srv/none.mp4"
    return away(code, "No such file")


@kind("`max_pixels` too small for a camera", "sync", of_camera=True)
def too_large(draft: Draft, _: World, code: str, __: random.Random) -> str:
    draft.camera(code)["max_pixels"] = 1000
    return away(code, "max_pixels = 1000")
