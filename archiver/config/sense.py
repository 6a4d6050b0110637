"""Finds settings that are valid but cannot have their effect, or have hardly the intended one. Pure.

A key that can never have its effect is an error, such as a rule that no recording can meet. A key with an unexpected
effect is a warning: with a safety margin longer than the provider's retention, recordings are still archived, but all
are late. `warn` looks at the written text, even in a file with mistakes; this module needs a valid configuration, since
most doubts are about two keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from archiver import vocabulary
from archiver.config.document import Place
from archiver.config.model import Config, S3Storage
from archiver.config.problem import Severity
from archiver.config.provider import AnyProvider, JustCall, Kazoo, Plivo
from archiver.config.values import Size, quoted, show_duration, show_span
from archiver.retention.policy import SHORTEST_LOCK
from archiver.retention.span import Span
from archiver.schedule import cron

IMPOSSIBLE, UNWISE = "C131", "C212"

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_LONGEST_MONTH = timedelta(days=31)
_SMALLEST_RECORDING, _SHORT_RECORDING = 1024, 4 * 2**20


@dataclass(frozen=True, slots=True)
class Doubt:
    """One setting that makes no sense: its place in the model, the message, and a hint at a better value."""

    place: Place
    message: str
    hint: str = ""
    code: str = IMPOSSIBLE

    @property
    def severity(self) -> Severity:
        return Severity.ERROR if self.code == IMPOSSIBLE else Severity.WARNING


def doubts(config: Config, now: datetime | None = None) -> Iterator[Doubt]:
    """Yields all doubts about this configuration.

    Dates are judged only with `now`: a daemon whose clock is wrong at its start must start all the same.
    """
    for index, provider in enumerate(config.providers):
        yield from _polling(config, index, provider)
        yield from _sizes(config, index, provider)
        yield from _filters(("providers", index, "filters"), provider)
        yield from _span(("providers", index), provider, now)
    yield from _retention(config)
    yield from _alerting(config)
    yield from _custody(config)
    yield from _storage(config)


# --- polling --------------------------------------------------------------------------------------------------


def _at(config: Config, index: int, key: str) -> Place:
    """The place of the value in effect: at the provider, or among the defaults; if written in neither, the provider
    itself."""
    if getattr(config.providers[index], key) is not None:
        return ("providers", index, key)
    return ("defaults", key) if key in config.defaults.model_fields_set else ("providers", index)


def _polling(config: Config, index: int, provider: AnyProvider) -> Iterator[Doubt]:
    pace, facts = config.pace(provider), provider.keeps()
    rest = cron.longest_rest(pace.cron) if pace.cron else pace.every
    rest = rest or pace.every
    polled = "poll_cron" if pace.cron else "poll_every"
    lives = [each for each in (facts.keeps, facts.months and facts.months * _LONGEST_MONTH) if each]
    life = min(lives) if lives else None
    if life is not None and rest >= life:
        message = (
            f"'{polled}' rests for {show_duration(rest)}, and {provider.id} keeps recordings for {show_duration(life)}"
        )
        yield Doubt(
            _at(config, index, polled), message, "what comes and goes in between is never seen: poll more often"
        )
    margin = _at(config, index, "safety_margin")
    if life is not None and pace.safety_margin >= life:
        kept = f"{provider.id} keeps recordings for {show_duration(life)}"
        message = f"'safety_margin' is {show_duration(pace.safety_margin)}, and {kept}"
        hint = "every recording is late before its call is over, and kept however it comes: a margin well below that"
        yield Doubt(margin, message, hint, UNWISE)
    elif life is not None and rest + pace.safety_margin >= life:
        message = f"'{polled}' and 'safety_margin' together are longer than {provider.id} keeps recordings"
        yield Doubt(margin, message, f"some are late when they are first seen: {show_duration(life)} are kept", UNWISE)
    if pace.overlap < _HOUR:
        message = f"'overlap' of {show_duration(pace.overlap)} is shorter than calls are long"
        hint = "rows appear when a call is over, dated by its start: 1h or more, or they wait for the next deep walk"
        yield Doubt(_at(config, index, "overlap"), message, hint, UNWISE)
    each = provider.rate.per / provider.rate.count
    if not pace.cron and each > pace.every / 2:
        message = (
            f"at {provider.rate} there is no request left to poll every {show_duration(pace.every)} and to download"
        )
        yield Doubt(
            ("providers", index, "rate"),
            message,
            "a poll takes one request for each page, a recording one or more",
            UNWISE,
        )
    if isinstance(provider, Kazoo) and provider.max_window < _HOUR:
        message = (
            f"'max_window' of {show_duration(provider.max_window)} makes a listing of each stretch of a call's length"
        )
        yield Doubt(("providers", index, "max_window"), message, "crossbar's own is 31d", UNWISE)


def _sizes(config: Config, index: int, provider: AnyProvider) -> Iterator[Doubt]:
    largest, place = config.pace(provider).max_size, _at(config, index, "max_size")
    if largest < _SMALLEST_RECORDING:
        message = f"'max_size' of {Size(largest)} refuses every recording"
        yield Doubt(place, message, "a minute of MP3 is some 1MB, of WAV the same")
    elif largest < _SHORT_RECORDING:
        message = f"'max_size' of {Size(largest)} refuses calls of a few minutes"
        yield Doubt(place, message, "a minute of MP3 or WAV is some 1MB", UNWISE)
    if config.spool.quota < largest:
        message = f"the spool holds {config.spool.quota}, less than 'max_size' ({Size(largest)}) of {provider.id}"
        hint = "a recording that is larger than the spool is never fetched: a larger quota, or a smaller max_size"
        yield Doubt(("spool", "quota"), message, hint, UNWISE)
    if isinstance(provider, JustCall) and provider.quota is not None and provider.quota < _SHORT_RECORDING:
        message = f"'quota' of {provider.quota} is full after a few calls"
        yield Doubt(("providers", index, "quota"), message, "the account's storage, e.g. 5GB", UNWISE)


def _span(place: Place, provider: AnyProvider, now: datetime | None) -> Iterator[Doubt]:
    since = provider.backfill_from
    if now is not None and since is not None and since > now:
        message = f"'backfill_from' has not come yet: {since:%Y-%m-%d %H:%M}"
        yield Doubt(
            (*place, "backfill_from"), message, "a day in the past; without the key, as far back as there is anything"
        )


def _filters(place: Place, provider: AnyProvider) -> Iterator[Doubt]:
    """Yields doubts about filters that no recording passes, or that the provider ignores."""
    if isinstance(provider, Plivo):
        given = provider.filters.query()
        for name in ("add_time", "recording_storage_duration"):
            bounds = {
                end: given[f"{name}{end}"] for end in ("", "__gt", "__gte", "__lt", "__lte") if f"{name}{end}" in given
            }
            if nothing := _nothing_between(bounds, number=name != "add_time"):
                low, high = (f"{name}{end}" for end in nothing)
                yield Doubt((*place, high), f"nothing is listed between '{low}' and '{high}'", "turn them round")
    if isinstance(provider, JustCall):
        filters = provider.filters
        both = (filters.number, filters.justcall_number)
        if (
            provider.dialect == "v2.1"
            and None not in both
            and vocabulary.number(str(both[0])) != vocabulary.number(str(both[1]))
        ):
            message = "'number' and 'justcall_number' are one filter, and name two numbers"
            yield Doubt((*place, "number"), message, "state one of them")
        for name in ("call_direction", "call_type"):
            if filters.ivr_digit is not None and getattr(filters, name) is not None:
                yield Doubt(
                    (*place, name), f"'{name}' has no effect beside 'ivr_digit'", "JustCall ignores it then", UNWISE
                )


def _nothing_between(bounds: dict[str, str], *, number: bool) -> tuple[str, str] | None:
    """A lower and an upper bound with nothing between them; None if there are none."""
    for low in ("__gt", "__gte", ""):
        for high in ("__lt", "__lte", ""):
            if low == high or low not in bounds or high not in bounds:
                continue
            one, other = (int(bounds[end]) if number else _moment(bounds[end]) for end in (low, high))
            strict = low == "__gt" or high == "__lt"
            if one > other or (one == other and strict):  # type: ignore[operator]
                return low, high
    return None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- retention ------------------------------------------------------------------------------------------------


def _retention(config: Config) -> Iterator[Doubt]:
    shown = show_duration(SHORTEST_LOCK)
    epoch = datetime(2025, 1, 1, tzinfo=UTC)  # any instant: only the span counts
    stated: list[tuple[Place, Span]] = [(("retention", "default"), config.retention.default)]
    stated += [(("retention", "rules", index, "keep"), rule.keep) for index, rule in enumerate(config.retention.rules)]
    for place, keep in stated:
        if keep.after(epoch) - epoch < SHORTEST_LOCK:
            message = f"{quoted(show_span(keep))} is shorter than the shortest lock, {shown}"
            yield Doubt(place, message, f"{shown} or more; years are written 7y")
    earlier: list[dict[str, vocabulary.Condition]] = []
    for index, rule in enumerate(config.retention.rules):
        at: Place = ("retention", "rules", index)
        match = rule.match.conditions()
        if clash := vocabulary.contradiction(match):
            yield Doubt(
                (*at, "match", clash[0]), f"nothing meets both '{clash[0]}' and '{clash[1]}'", "turn them round"
            )
        before = next((place for place, each in enumerate(earlier) if vocabulary.implies(match, each)), None)
        if before is not None:
            message = f"this rule never holds: rules[{before}] comes first and matches all that it matches"
            yield Doubt((*at, "match"), message, "put the narrower rule before the wider one")
        earlier.append(match)
        yield from _unmet((*at, "match"), config, match)


def _unmet(at: Place, config: Config, match: dict[str, vocabulary.Condition]) -> Iterator[Doubt]:
    """Yields doubts about conditions that no row of the rule's providers can meet."""
    named = [each for each in config.providers if match.get("provider", each.id) == each.id]
    kinds = sorted({each.kind for each in named})
    if match.get("direction") == vocabulary.INTERNAL and "kazoo" not in kinds:
        message = f"no call of {', '.join(kinds)} is internal"
        yield Doubt((*at, "direction"), message, "inbound or outbound; only KAZOO tells calls within its own network")
    for name, wanted in match.items():
        if (name, wanted) == ("direction", vocabulary.INTERNAL):
            continue
        if kinds and not any(name in vocabulary.STATED[kind] for kind in kinds):
            message = f"no row that {', '.join(kinds)} documents states '{name}'"
            yield Doubt((*at, name), message, "the rule may never hold: docs/reference/retention-rules.md", UNWISE)
    variant = match.get("variant")
    if isinstance(variant, str) and not any(variant in _variants(each) for each in named):
        made = sorted({each for provider in named for each in _variants(provider)})
        hint = (
            f"one of: {' '.join(made)}" if made else "original: true (Plivo) or dialect: v2.1 (JustCall) makes variants"
        )
        yield Doubt((*at, "variant"), f"no provider archives a variant {quoted(variant)}", hint)


def _variants(provider: AnyProvider) -> set[str]:
    if isinstance(provider, Plivo) and provider.original:
        return {"original"}
    return {"child"} if isinstance(provider, JustCall) and provider.dialect == "v2.1" and provider.child else set()


# --- the rest -------------------------------------------------------------------------------------------------


def _alerting(config: Config) -> Iterator[Doubt]:
    levels = config.alerting.thresholds
    if levels.warning <= levels.critical:
        at = "warning" if "warning" in levels.model_fields_set else "critical"
        warned, woken = show_duration(levels.warning), show_duration(levels.critical)
        message = f"'warning' ({warned}) does not come before 'critical' ({woken})"
        yield Doubt(
            ("alerting", "thresholds", at),
            message,
            "both are times before the deletion: the warning's is the longer",
        )
    signed, late = show_duration(config.custody.checkpoint_every), show_duration(levels.checkpoint)
    if levels.checkpoint <= config.custody.checkpoint_every:
        message = f"'checkpoint.overdue' comes after {late}, and a checkpoint every {signed}: it would always stand"
        place: Place = ("custody", "checkpoint_every")
        if "checkpoint" in levels.model_fields_set:
            place = ("alerting", "thresholds", "checkpoint")
        yield Doubt(place, message, "a threshold well above checkpoint_every", UNWISE)
    for index, route in enumerate(config.alerting.routes):
        if route.repeat < _MINUTE:
            message = f"the same alert again every {show_duration(route.repeat)}"
            yield Doubt(("alerting", "routes", index, "repeat"), message, "people stop to listen: 1h or 12h", UNWISE)


def _custody(config: Config) -> Iterator[Doubt]:
    custody = config.custody
    if custody.checkpoint_every > _DAY:
        message = f"the log is published every {show_duration(custody.checkpoint_every)}"
        yield Doubt(("custody", "checkpoint_every"), message, "what is not published can be denied: 10s to 1h", UNWISE)
    if custody.timestamp is not None and custody.timestamp.every < custody.checkpoint_every:
        message = "time stamps are asked for more often than there is something to stamp"
        yield Doubt(("custody", "timestamp", "every"), message, "not shorter than checkpoint_every", UNWISE)


def _storage(config: Config) -> Iterator[Doubt]:
    for index, storage in enumerate(config.storage):
        if isinstance(storage, S3Storage) and storage.sse and storage.sse.mode == "AES256" and storage.sse.key_id:
            message = "'key_id' has no effect with AES256"
            yield Doubt(("storage", index, "sse", "key_id"), message, "mode: aws:kms, or no key_id")
