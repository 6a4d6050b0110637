"""Lists the kinds of providers: for each its settings, its adapter, and the defaults that its documents give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from archiver.providers import justcall, kazoo, plivo, vobiz
from archiver.providers.justcall_dialects import DIALECTS

if TYPE_CHECKING:
    from archiver.clock import Clock
    from archiver.providers.http import HttpClient
    from archiver.providers.port import Provider


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` requests per `period`, of which `burst` may come at once."""

    count: int
    period: timedelta
    burst: int = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """A provider's adapter and defaults. `filters` are the documented list filters, as patterns; `allows` tells whether
    a filter of this name is documented. `origin` None means that every site has its own. `media_hosts` are the hosts
    that are known to serve its recordings."""

    settings: type[Any]
    adapter: Callable[..., Provider]
    filters: tuple[str, ...]
    allows: Callable[[str], bool]
    origin: str | None
    media_hosts: tuple[str, ...]
    rate: Rate

    def build(self, name: str, settings: object, client: HttpClient, clock: Clock) -> Provider:
        """Make the adapter. Raises `ConfigurationError` when the settings contradict one another or the provider's
        documents."""
        return self.adapter(name, settings, client, clock)


_JUSTCALL_FILTERS = tuple(sorted({name for dialect in DIALECTS.values() for name in dialect.filters}))

CATALOG: Mapping[str, Kind] = {
    "justcall": Kind(
        justcall.JustCallSettings,
        justcall.JustCall,
        _JUSTCALL_FILTERS,
        _JUSTCALL_FILTERS.__contains__,
        justcall.ORIGIN,
        justcall.MEDIA_HOSTS,
        Rate(30, timedelta(minutes=1), burst=10),  # the smallest plan, by the vendor's current table
    ),
    "kazoo": Kind(
        kazoo.KazooSettings,
        kazoo.Kazoo,
        kazoo.FILTERS,
        kazoo.allows,
        None,
        (),
        Rate(10, timedelta(seconds=1), burst=50),  # crossbar's refill; its bucket holds 100
    ),
    "vobiz": Kind(
        vobiz.VobizSettings,
        vobiz.Vobiz,
        vobiz.FILTERS,
        vobiz.FILTERS.__contains__,
        vobiz.ORIGIN,
        vobiz.MEDIA_HOSTS,
        Rate(5, timedelta(seconds=1), burst=5),  # undocumented
    ),
    "plivo": Kind(
        plivo.PlivoSettings,
        plivo.Plivo,
        plivo.FILTERS,
        plivo.allows,
        plivo.ORIGIN,
        plivo.MEDIA_HOSTS,
        Rate(300, timedelta(seconds=5), burst=60),
    ),
}
