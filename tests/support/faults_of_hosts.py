"""The faults of `tests.support.faults` that are no camera's: Redis, store, callbacks, pages, and the host itself."""

import random
import re

import orjson

from snapd.requests.presence import PREFIX, Host
from tests.support.faults import Draft, World, kind
from tests.support.ports import free_port
from tests.support.site import SNAPD, Site

STATE = "/var/lib/framesrv"
APPLIED = "/etc/framesrv/applied/cameras"


def redis_away(words: str) -> str:
    return f"down: requests: (Redis away|waiting for Redis): .*{words}"


def no_pictures(words: str) -> str:
    return f"down: store: it takes no pictures: .*{words}.*, [0-9]+ failed since"


# -- Redis ---------------------------------------------------------------------------------------------------------


@kind("the password of Redis", "force")
def redis_password(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.sections["redis"]["url"] = draft.site.redis.url.replace("redis://", "redis://:wrong@")
    return redis_away("password")


@kind("the port of Redis", "force")
def redis_port(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.sections["redis"]["url"] = f"redis://127.0.0.1:{free_port()}/0"
    return redis_away("(refused|nothing listens)")


@kind("the host name of Redis", "force")
def redis_name(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.sections["redis"]["url"] = "redis://no-such-redis.invalid:6379/0"
    return redis_away(r"no-such-redis\.invalid")


@kind("`rediss://` to a plain Redis", "force")
def redis_tls(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.sections["redis"]["url"] = draft.site.redis.url.replace("redis://", "rediss://")
    return redis_away("")


@kind("a number of a database that Redis does not have", "force")
def redis_database(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.sections["redis"]["url"] = draft.site.redis.url.rpartition("/")[0] + "/99"
    return redis_away("")


def _other(site: Site, group: str, consumer: str) -> None:
    """Another host's snapd, with cameras of its own, reads as `consumer`."""
    client = site.redis.client()
    client.xgroup_create("edge_snap_request", group, mkstream=True)
    client.xgroup_createconsumer("edge_snap_request", group, consumer)
    other = Host("another", "edge2", "another:1", 1, 1, 4, "0123456789abcdef")
    client.set(f"{PREFIX}{group}:{consumer}", orjson.dumps(other), ex=600)


@kind("a `[stream] group` that a host of other cameras reads too", "sync")
def shared_group(draft: Draft, _: World, __: str, dice: random.Random) -> str:
    group = f"group{dice.randrange(10**6)}"
    _other(draft.site, group, "edge2_worker")
    draft.sections["stream"]["group"] = group
    draft.forced = True  # sync finds it as well
    return "impaired: group: it is not this host's alone: edge2"


@kind("a `[stream] consumer` that another snapd has", "sync")
def shared_consumer(draft: Draft, _: World, __: str, dice: random.Random) -> str:
    group, consumer = f"group{dice.randrange(10**6)}", "edge2_worker"
    _other(draft.site, group, consumer)
    draft.sections["stream"] |= {"group": group, "consumer": consumer}
    draft.forced = True
    return "impaired: (group: it is not this host's alone: edge2|consumer: another snapd reads as edge2_worker)"


# -- the store, and callbacks --------------------------------------------------------------------------------------


@kind("the secret key of COS", "force", asks=True)
def wrong_secret(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    key = draft.site.cos.secret_key
    draft.environment = draft.environment.replace(f"SECRET_KEY='{key}'", "SECRET_KEY=wrong")
    return no_pictures("(SignatureDoesNotMatch|secret)")


@kind("the secret id of COS", "force", asks=True)
def wrong_secret_id(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.environment = draft.environment.replace(draft.site.cos.secret_id, "AKIDwrong")
    return no_pictures("(InvalidAccessKeyId|secret_id)")


@kind("the host name of COS", "force", asks=True)
def store_name(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.sections["store"]["domain"] = "no-such-store.invalid"
    return no_pictures(r"no-such-store\.invalid")


@kind("the port of COS", "force", asks=True)
def store_port(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.sections["store"]["domain"] = f"127.0.0.1:{free_port()}"
    return no_pictures("(refused|nothing listens)")


@kind("the owner of the pictures' directory", "force", asks=True)
def unwritable(draft: Draft, _: World, __: str, dice: random.Random) -> str:
    place = f"{STATE}/pictures{dice.randrange(10**6)}"
    draft.site.host.must("mkdir", "--mode=755", place)
    draft.sections["store"] = {"kind": "dir", "path": place}
    return no_pictures(f"{place}.*(Permission denied|may not be written)")


@kind("a full disk below the pictures", "force", asks=True)
def full_disk(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    host, place = draft.site.host, f"{STATE}/full"
    host.must("mkdir", "-p", place)
    host.must("mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", place)
    host.run("dd", "if=/dev/zero", f"of={place}/filler", "bs=64k")
    draft.undo.append(lambda: host.must("umount", "-l", place))
    draft.sections["store"] = {"kind": "dir", "path": place}
    draft.sections["snapshot"]["workers"] = 4  # snapd is restarted, and sees what was mounted
    return f"down: disk: 0 MB of 1 MB free in {place}"


@kind("a platform that `allowed_callbacks` does not name", "sync", asks=True)
def not_allowed(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.sections["result"]["allowed_callbacks"] = ["https://wvp.example"]
    return "impaired: callbacks: they fail, .*: refused: not in result.allowed_callbacks, 1 failed since"


@kind("the path of callbacks", "sync", asks=True)
def callback_path(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    draft.sections["result"]["callback_path"] = "/api/nowhere"
    return "impaired: callbacks: they fail, .*: status 400.*, 1 failed since"


@kind("a port of the pages that another program has", "sync")
def port_taken(draft: Draft, world: World, _: str, __: random.Random) -> str:
    draft.sections["http"] = {"listen": f"127.0.0.1:{world.taken}"}
    return "impaired: pages: pages cannot listen on .*: Address already in use"


# -- the host ------------------------------------------------------------------------------------------------------


@kind("`/dev/shm` filled by another program", "host", heals="remove its file")
def full_memory(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    host = draft.site.host
    host.run("dd", "if=/dev/zero", "of=/dev/shm/filler", "bs=1M")
    draft.undo.append(lambda: host.must("rm", "/dev/shm/filler"))
    return "impaired: shared memory: [0-9]+ MB of [0-9]+ MB free in /dev/shm"


@kind("the rights of a camera's copy", "host", heals="`sync`", of_camera=True)
def wrong_rights(draft: Draft, _: World, code: str, __: random.Random) -> str:
    host = draft.site.host
    host.must("chown", "root:root", f"{APPLIED}/{code}.json")
    host.must("chmod", "600", f"{APPLIED}/{code}.json")
    draft.site.kill(code)
    return f"impaired: camera {re.escape(code)}: its unit is failed: "


@kind("a camera's copy, changed by hand", "host", heals="`sync`", of_camera=True)
def damaged_copy(draft: Draft, _: World, code: str, __: random.Random) -> str:
    draft.site.host.path(f"{APPLIED}/{code}.json").write_text('{"camera": [{"nonsense": 1}]}')
    draft.site.kill(code)
    return f"impaired: camera {re.escape(code)}: its unit is failed: .*applied.*(no such key|expected a value)"


@kind("a snapd that was stopped", "host", heals="`framesrv start snapd`")
def stopped_snapd(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    host = draft.site.host
    host.must("systemctl", "stop", SNAPD)
    draft.undo.append(lambda: host.must("framesrv", "start", "snapd"))
    return "down: snapd: stopped by hand: sudo framesrv start snapd"


@kind("the copy of snapd, changed by hand", "host", heals="`sync`")
def damaged_copy_of_snapd(draft: Draft, _: World, __: str, ___: random.Random) -> str:
    host = draft.site.host
    host.path("/etc/framesrv/applied/snapd.json").write_text("{")
    host.run("systemctl", "restart", SNAPD)
    return "down: snapd: its unit is failed: .*not JSON"
