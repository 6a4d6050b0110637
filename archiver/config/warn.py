"""Finds settings that are allowed but unwise, or whose effect is unexpected. Pure.

Looks at the written text rather than at the model, so that warnings are shown even while there are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from archiver.config.document import Document, Place, Written, within
from archiver.config.problem import Problem, Severity
from archiver.config.suggest import closest

_UNDOCUMENTED = {
    "kazoo": (
        "KAZOO documents none",
        "Ask your operator when monthly databases are removed, then set  retention: {months: N}  or  retention: none",
    ),
    "vobiz": ("Vobiz documents none", "Ask Vobiz, then set  retention: {days: N, source: …}  or  retention: none"),
}


def warnings(document: Document) -> Iterator[Problem]:
    """Yields every warning about this file."""
    for place, code, message, hint in _all(document.value):
        yield document.problem(code, place, message, hint, severity=Severity.WARNING)


_Warning = tuple[Place, str, str, str]


def _all(value: dict[str, Written]) -> Iterator[_Warning]:
    for place, provider in _listed(value, "providers"):
        yield from _provider(place, provider)
    for place, storage in _listed(value, "storage"):
        yield from _storage(place, storage)
    recipients = [each for _, each in _listed(value.get("encryption"), "recipients")]
    if recipients and not any(_true(each.get("escrow")) for each in recipients):
        hint = "Add a recipient with  escrow: true  whose private key is kept off-line, or losing one key loses the archive"
        yield ("encryption", "recipients"), "C205", "no recipient is for escrow", hint
    if "retention" not in value:
        yield (
            (),
            "C211",
            "no retention is stated: recordings will be kept and locked for 7y",
            "State  retention: {default: …}",
        )
    stamps = within(value, "custody", "timestamp")
    if isinstance(stamps, dict) and not stamps.get("ca"):
        said = "time stamps count of whichever authority this system's certificates lead to: whose they are is not verified"
        hint = "Have the authority's root certificate from itself, and set  ca: FILE"
        yield ("custody", "timestamp"), "C213", said, hint
    if isinstance(stamps, dict) and _plain(stamps.get("url")):
        yield _crossing(("custody", "timestamp", "url"), "the time stamping authority")
    witnesses = within(value, "custody", "witnesses")
    for index, witness in enumerate(witnesses if isinstance(witnesses, list) else []):
        if isinstance(witness, dict) and _plain(witness.get("url")):
            yield _crossing(("custody", "witnesses", index, "url"), "a witness")
    listen = within(value, "web", "listen")
    if isinstance(listen, str) and not listen.startswith(("127.", "localhost:", "[::1]:")):
        yield ("web", "listen"), "C210", "the web listener is open to other machines", "It asks for no password"


def _provider(place: Place, provider: dict[str, Written]) -> Iterator[_Warning]:
    name, kind = str(provider.get("id", "a provider")), closest(str(provider.get("kind")), ["justcall", *_UNDOCUMENTED])
    if kind in _UNDOCUMENTED and "retention" not in provider:
        documented, hint = _UNDOCUMENTED[kind]
        yield place, "C204", f"{name} states no retention; {documented}", hint
    if kind == "justcall" and "plan" not in provider and "retention" not in provider:
        yield place, "C204", f"{name} states neither plan nor retention; the shortest, team, is assumed", "Set  plan: …"
    if _true(provider.get("allow_http")):
        yield (
            (*place, "allow_http"),
            "C207",
            f"{name} may use plain http",
            "Credentials and recordings then cross the network in clear",
        )


def _storage(place: Place, storage: dict[str, Written]) -> Iterator[_Warning]:
    name, mode = str(storage.get("id", "primary")), within(storage, "object_lock", "mode")
    if mode == "off":
        yield (
            (*place, "object_lock", "mode"),
            "C206",
            f"{name} protects nothing: its lock mode is off",
            "Set  compliance",
        )
    if mode == "governance":
        hint = "Those with s3:BypassGovernanceRetention can delete recordings; compliance keeps everyone from it"
        yield (*place, "object_lock", "mode"), "C208", f"{name} uses governance mode", hint
    if str(storage.get("endpoint", "")).lower().startswith("http:"):
        yield (*place, "endpoint"), "C207", f"{name} uses plain http", "Credentials cross the network in clear"


def _crossing(place: Place, who: str) -> _Warning:
    hint = "Whoever is in between can keep its answers from us, and sees when we are at work; use https"
    return place, "C207", f"{who} is asked over plain http", hint


def _plain(url: Written) -> bool:
    """Tells whether this URL sends in clear to another machine."""
    parts = urlsplit(url.strip().lower()) if isinstance(url, str) else None
    if parts is None or parts.scheme != "http":
        return False
    host = parts.netloc.rpartition("@")[2]
    return not re.fullmatch(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]*)?", host)


def _listed(value: Written, key: str) -> list[tuple[Place, dict[str, Written]]]:
    """The mappings under `key`, a single one or several in a list, with their places."""
    listed = within(value, key)
    if isinstance(listed, dict):
        return [((key,), listed)]
    prefix: Place = ("encryption", key) if key == "recipients" else (key,)
    items = listed if isinstance(listed, list) else []
    return [((*prefix, index), each) for index, each in enumerate(items) if isinstance(each, dict)]


def _true(value: Written) -> bool:
    return isinstance(value, str) and value.lower() == "true"
