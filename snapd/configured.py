"""What requests are answered with, as one configuration says. A new one makes all of it anew.

A request keeps what it began with, so that nothing changes under it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import redis

from framesrv.settings import Settings, SnapshotSettings
from snapd.answers.handover import Handover
from snapd.limits import job_limit
from snapd.pictures.capture import Captures
from snapd.pictures.clips import Clips
from snapd.pictures.encoder import Encoder
from snapd.stores.store import Store, open_store
from snapd.telemetry.counters import Counters


def _encoding(snapshot: SnapshotSettings) -> tuple[object, ...]:
    """What an encoder is made by."""
    return snapshot.encoder, snapshot.quality, snapshot.exif, snapshot.overlay


@dataclass(frozen=True)
class Configured:
    """Everything for answering that hangs on the configuration."""

    settings: Settings
    encoder: Encoder
    captures: Captures
    clips: Clips
    store: Store
    handover: Handover

    @classmethod
    def of(
        cls,
        settings: Settings,
        client: redis.Redis,
        *,
        counters: Counters | None = None,
        old: Self | None = None,
        encoder: Encoder | None = None,
        store: Store | None = None,
    ) -> Self:
        """All of it for `settings`; what is the same in `old` goes on, with its connections and what it has learnt.

        `counters` counts callbacks that fail. `encoder` and `store` are taken in place of those of `settings`.

        Raises:
            ConfigError: the store's settings are incomplete, or values cannot be.
            EncoderError: the encoder is not on this host.
        """
        snapshot, was = settings.snapshot, old.settings if old else None
        if old and was and _encoding(was.snapshot) == _encoding(snapshot):
            encoder = old.encoder
        encoder = encoder or Encoder.of(snapshot)
        captures = Captures(
            encoder,
            shm=settings.shm,
            max_age=snapshot.max_age,
            wait=snapshot.wait,
            on_demand=[stream.code for stream in settings.streams if stream.decode == "demand"],
            processes=snapshot.processes,
        )
        clips = Clips(settings.shm, snapshot.wait, snapshot.processes)
        if old and was and was.store == settings.store:
            store = old.store
        elif store is None:
            store = open_store(settings.store, connections=snapshot.workers, counters=counters)
        if old and was and was.result == settings.result:
            handover = old.handover
        else:
            handover = Handover(settings.result, client, counters)
        return cls(settings, encoder, captures, clips, store, handover)

    @cached_property
    def cameras(self) -> frozenset[str]:
        """The codes of this host's cameras."""
        return frozenset(camera.code for camera in self.settings.cameras)

    @cached_property
    def codes(self) -> frozenset[str]:
        """What requests may name: cameras, and substreams as ``CODE.sub``."""
        return frozenset(stream.code for stream in self.settings.streams)

    @cached_property
    def limit(self) -> float:
        """The seconds that answering one request takes at most."""
        return job_limit(self.settings)
