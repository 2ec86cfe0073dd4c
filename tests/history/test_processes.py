"""A writer at full speed, a writer that is killed again and again, and readers that are none the worse for it."""

import os
import random
from collections.abc import Callable

from framesrv.history.abandoned import remove_abandoned
from tests.history import programs
from tests.support.segment_programs import Process

PACKETS = int(os.environ.get("HISTORY_PACKETS", "20000"))  # 10^6 in a long run
KILLS = int(os.environ.get("HISTORY_KILLS", "12"))  # 200 in a long run
READERS = 4
PATIENCE = 600.0  # s that a writer may take for its packets, beside four readers
LONGEST = 10.0  # s of one reader's call that waits for 0.1 s


def ended(readers: list[Process]) -> int:
    """Ends readers that have read something, nothing torn, and hung nowhere; gives how many packets they read."""
    total = 0
    for reader in readers:
        reader.pipe.send("end")
        read, torn, longest = reader.answer(60)
        assert torn == 0
        assert read > 0
        assert longest < LONGEST
        total += read
    return total


def test_no_packet_is_torn_at_any_rate_with_any_number_of_readers(start: Callable[..., Process], prefix: str) -> None:
    writer = start(programs.write_many, prefix, PACKETS)
    assert writer.answer() == "ready"
    readers = [start(programs.read_all, prefix) for _ in range(READERS)]
    assert [reader.answer() for reader in readers] == ["ready"] * READERS
    writer.pipe.send("go")
    median, late = writer.answer(PATIENCE)
    total = ended(readers)
    writer.pipe.send("end")
    assert writer.join() == 0
    print(f"{PACKETS} packets, {total} read: p50 {median / 1000:.1f} us, p99 {late / 1000:.1f} us")  # noqa: T201


def test_a_writer_that_is_killed_at_any_instant_harms_nobody(start: Callable[..., Process], prefix: str) -> None:
    chance = random.Random(5)
    readers = [start(programs.read_all, prefix) for _ in range(READERS)]
    assert [reader.answer() for reader in readers] == ["ready"] * READERS
    for _ in range(KILLS):
        writer = start(programs.write_for_ever, prefix)
        assert writer.answer() == "ready"
        assert not writer.pipe.poll(chance.random() * 0.05)
        writer.kill()
    ended(readers)
    remove_abandoned(prefix, "cam")
