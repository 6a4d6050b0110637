"""The list filters of each provider, under the names in the provider's own documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from archiver.config.fields import Text, matching, whole
from archiver.config.section import Conflict, Section
from archiver.config.values import quoted


class Filters(Section):
    """The provider's own list filters: only recordings that match are listed, and so archived."""

    def query(self) -> dict[str, str]:
        """The filters as parameters of the provider's API."""
        return {name: str(value) for name, value in self.model_dump(exclude_none=True).items()}


class JustCallFilters(Filters):
    """JustCall call log filters."""

    agent_id: Annotated[int, whole(0, 2**31 - 1)] | None = None
    """Calls of one agent."""
    number: Text | None = None
    """Calls of one JustCall number, E.164."""
    direction: Annotated[Literal["inbound", "outbound", "all"], Field(title="direction")] | None = None
    """Direction of the call (dialect `v2`)."""
    status: Annotated[Literal["completed", "missed", "voicemail", "busy"], Field(title="status")] | None = None
    """Outcome of the call (dialect `v2`)."""
    call_direction: Text | None = None
    """Direction of the call (dialect `v2.1`)."""
    call_type: Text | None = None
    """Outcome of the call (dialect `v2.1`)."""
    call_traits: Text | None = None
    """Traits of the call (dialect `v2.1`)."""
    contact_number: Text | None = None
    """Calls with one number (dialect `v2.1`)."""
    justcall_number: Text | None = None
    """Same as `number` (dialect `v2.1`)."""
    ivr_digit: Annotated[int, whole(0, 99)] | None = None
    """Digit that the caller chose; switches the filters by direction and type off (dialect `v2.1`)."""
    disposition_codes: Text | None = None
    """Disposition (dialect `v2.1`)."""
    campaign_id: Text | None = None
    """Sales Dialer campaign (dialect `v2.1`)."""
    sales_dialer_number: Text | None = None
    """Sales Dialer number (dialect `v2.1`)."""


_BOTH_DIALECTS = {"agent_id", "number"}
_V2_FILTERS = {"direction", "status"}


class KazooFilters(Filters):
    """KAZOO's generic list filters: `filter_<key>`, `filter_not_<key>`, `has_key`, `key_missing`, `has_value`."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        for name, value in given.items():
            if not name.startswith(("filter_", "filter_not_")) and name not in {"has_key", "key_missing", "has_value"}:
                yield Conflict(
                    (name,),
                    "C101",
                    f"unknown key '{name[:40]}'",
                    "filter_<key>, filter_not_<key>, has_key, key_missing, has_value",
                )
            elif not isinstance(value, str) or not value.isprintable():
                yield Conflict((name,), "C104", "a filter's value must be a line of text")


class VobizFilters(Filters):
    """Vobiz list filters."""

    call_uuid: Text | None = None
    """Recordings of one call."""
    recording_type: Text | None = None
    """Commonly `trunk`, `extension` or `call`."""


_DAYS = whole(0, 36_500)


_TIME = matching(
    r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d(\.\d{1,6})?)?", "a time as Plivo takes it", "UTC, YYYY-MM-DD HH:MM[:ss[.uuuuuu]]"
)


class PlivoFilters(Filters):
    """Plivo list filters. Filters by time limit what is archived at all; to choose the first day, use
    `backfill_from`."""

    from_number: Text | None = None
    """Caller, E.164 or SIP endpoint."""
    to_number: Text | None = None
    """Callee, E.164 or SIP endpoint."""
    subaccount: Text | None = None
    """Recordings of one subaccount; to archive several, see `subaccounts`."""
    call_uuid: Text | None = None
    """Recordings of one call."""
    mpc_name: Text | None = None
    """Multiparty call, by name."""
    mpc_uuid: Text | None = None
    """Multiparty call, by id."""
    conference_name: Text | None = None
    """Conference, by name."""
    conference_uuid: Text | None = None
    """Conference, by id."""
    add_time: Annotated[str, _TIME] | None = None
    """Created at this very time, UTC."""
    add_time__gt: Annotated[str, _TIME] | None = None
    """Created after this time."""
    add_time__gte: Annotated[str, _TIME] | None = None
    """Created at this time or later."""
    add_time__lt: Annotated[str, _TIME] | None = None
    """Created before this time."""
    add_time__lte: Annotated[str, _TIME] | None = None
    """Created at this time or earlier."""
    recording_storage_duration: Annotated[int, _DAYS] | None = None
    """Days in Plivo's storage, exactly."""
    recording_storage_duration__gt: Annotated[int, _DAYS] | None = None
    """More than this many days."""
    recording_storage_duration__gte: Annotated[int, _DAYS] | None = None
    """At least this many days."""
    recording_storage_duration__lt: Annotated[int, _DAYS] | None = None
    """Fewer than this many days."""
    recording_storage_duration__lte: Annotated[int, _DAYS] | None = None
    """At most this many days."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        times = [name for name in given if name.startswith("add_time")]
        for name in given if times else ():
            if name.startswith("recording_storage_duration"):
                yield Conflict(
                    (name,), "C130", f"'{name}' and '{times[0]}' exclude one another", "Plivo refuses them together"
                )


def wrong_dialect(dialect: object, filters: object) -> Iterator[Conflict]:
    """Yields a conflict for each JustCall filter that the chosen dialect does not have."""
    for name in filters if isinstance(filters, Mapping) else ():
        its = "v2" if name in _V2_FILTERS else "v2.1"
        if name in JustCallFilters.model_fields and name not in _BOTH_DIALECTS and dialect != its:
            message = f"dialect {quoted(dialect)} does not know the filter '{name}'"
            yield Conflict(("filters", name), "C130", message, f"it is of dialect {its}")
