"""Redacts texts for logs, errors and reports: no secret, no signed URL, no whole phone number, one line.

This is a second barrier. The first is not to write such things at all: `Secret` shows a mask, errors name hosts and
never queries. Pure, standard library only.
"""

from __future__ import annotations

import base64
import re
import traceback
from urllib.parse import unquote

MASK = "**redacted**"
LONGEST = 16_384
"""The most characters kept of one text; a longer text is cut before anything else, so that no input makes this slow."""


def redact(text: str) -> str:
    """Return `text` fit to be shown. Takes any string; redacting twice shows no more than redacting once.

    URLs lose user information, query and fragment; credentials in headers, assignments and key files are masked, also
    when they have several words or an encoding (JSON's escapes, percent, base64); phone numbers keep their last three
    digits; control characters, line breaks and direction marks are escaped. Digests, UUIDs, dates, times and epoch
    seconds stay whole.
    """
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… (cut)"
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    text = _WORD.sub(_unless_it_hides, text)
    text = _BASE64.sub(_unless_it_encodes, text)
    text = _KEY_BLOCK.sub(MASK, text)
    text = _URL.sub(_without_secrets, text)
    text = _HEADER.sub(rf"\g<1>{MASK}", text)
    text = _QUOTED.sub(rf"\g<1>{MASK}", text)
    text = _PASSPHRASE.sub(rf"\g<1>{MASK}", text)
    text = _ASSIGNMENT.sub(rf"\g<1>{MASK}", text)
    text = _SCHEME.sub(rf"\g<1> {MASK}", text)
    text = _JWT.sub(MASK, text)
    text = _DIGITS.sub(_without_phone, text)
    return _CONTROL.sub(_escaped, text)


_FRAMES = 30
_OURS = __file__.rpartition("/")[0]


def traceback_of(error: BaseException) -> str:
    """Return the traceback of `error`, its innermost lines, fit to be shown."""
    lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-_FRAMES, chain=False)
    return redact("".join(lines))


def place_of(error: BaseException) -> str:
    """Return the file and line where `error` was raised: the innermost of the archiver's own, or of all where none
    is."""
    frames = traceback.extract_tb(error.__traceback__, limit=-_FRAMES)
    own = [each for each in frames if each.filename.startswith(_OURS) and not each.filename.endswith("/wall.py")]
    for last in (own or list(frames))[-1:]:
        return f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
    return "an unknown place"


_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)

_URL = re.compile(r"""([a-z][a-z0-9+.-]{0,20}://)([^\s"'<>]+)""", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"[^:]*|\[[0-9a-f:.]*\](?::[0-9]{0,5})?|[^:]*:[0-9]{0,5}[),;.}\]]*", re.IGNORECASE)


def _without_secrets(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        rest = f"{MASK}@{rest[authority.rindex('@') + 1 :]}"
    elif not _HOST_AND_PORT.fullmatch(authority):  # a password may hold a slash or a question mark
        rest = f"{MASK}@{rest.rpartition('@')[2]}" if "@" in rest else MASK
    shown = re.split(r"[?#]", rest, maxsplit=1)[0]
    return f"{scheme}{shown}" + (f"?{MASK}" if shown != rest else "")


_QUOTE = r"""\\{0,4}["']"""
_SEPARATOR = rf"""(?:{_QUOTE})?\s{{0,3}}[:=,]\s{{0,3}}"""
_HEADER = re.compile(
    rf"""((?<![a-z0-9])(?:proxy-)?(?:authorization|(?:set-)?cookie){_SEPARATOR}(?:b?{_QUOTE})?)[^\r\n"']+""",
    re.IGNORECASE,
)
_NAMED = rf"""(?<![a-z0-9])(?:
    x-auth-[a-z-]{{1,20}} | x-(?:amz|goog)-[a-z-]{{1,30}}
  | [a-z_-]{{0,20}}password | passwd | pwd | passphrase | [a-z_-]{{0,20}}secret | credentials? | signature | sig
  | [a-z_-]{{0,20}}(?:api|access|secret|private|account)[_\s-]?key | [a-z_-]{{1,20}}token
  | token(?!{_SEPARATOR}[0-9]{{1,9}}(?![0-9a-z]))      # "token=12" is a fencing token
){_SEPARATOR}"""
_NAME = rf"{_NAMED}(?:b?{_QUOTE})?"
_QUOTED = re.compile(rf"""({_NAMED}b?(\\{{0,4}}["']))(?!{_NAME})(?:(?!\2)[^\r\n])+""", re.IGNORECASE | re.VERBOSE)
# Words in a row, up to the next name with a value: a passphrase has several words.
_PASSPHRASE = re.compile(
    rf"""((?<![a-z0-9])[a-z_-]{{0,20}}(?:password|passwd|pwd|passphrase)(?:{_QUOTE})?\s{{0,3}}[:=]\s{{0,3}})(?!b?{_QUOTE})(?!{_NAME})
    [^]\s"',;&}})]+ (?:[ ](?![a-z0-9_.-]{{1,40}}\s{{0,3}}[:=])[^]\s"',;&}})]+){{0,12}}""",
    re.IGNORECASE | re.VERBOSE,
)
_ASSIGNMENT = re.compile(rf"""({_NAME}) (?!{_NAME}) (?:[^]\s"',;&}})\\]|\\(?!["']))+""", re.IGNORECASE | re.VERBOSE)
_SCHEME = re.compile(r"\b((?i:Basic|Bearer))\s+(?=\S*[0-9A-Z=+/])[A-Za-z0-9+/._~-]{8,}={0,2}")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*")

_DIGITS = re.compile(
    r"""
    (?P<kept>
        [0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}      # UUID
      | (?<![0-9A-Za-z])(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}|[0-9a-fA-F]{96}|[0-9a-fA-F]{128})(?![0-9A-Za-z])
      | (?<![0-9])(?:19|20)[0-9]{2}-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12][0-9]|3[01])
        (?:[T ]?[0-2][0-9]:?[0-5][0-9](?::?[0-5][0-9](?:[.,][0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?(?![0-9])
      | (?<![0-9A-Za-z_+.])1[4-9][0-9]{8}(?:[0-9]{3}|[.][0-9]{1,9})?(?![0-9A-Za-z_])                    # epoch seconds, ms
      | (?<![0-9A-Za-z_+.])[0-9]{7,15}(?=\s?(?:bytes?|[KMGT]?i?B|ms|s|seconds|objects|recordings)\b)    # an amount
    )
  | (?P<phone>
        (?<![0-9A-Za-z_])(?:\+|00)[0-9](?:[\s().-]{0,2}[0-9]){6,14}(?![0-9A-Za-z_])
      | (?<![0-9A-Za-z_-])(?:1[\s.-])?\(?[0-9]{3}\)?[\s.-]{1,2}[0-9]{3}[\s.-][0-9]{4}(?![0-9A-Za-z_-])
      | (?<![0-9A-Za-z_])(?<![0-9][.])[0-9]{7,15}(?![0-9A-Za-z_]|[.][0-9])
    )
    """,
    re.VERBOSE,
)


def _without_phone(found: re.Match[str]) -> str:
    return found[0] if found["phone"] is None else f"***{re.sub(r'[^0-9]', '', found[0])[-3:]}"


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return _SHORT.get(character) or (f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}")


_ESCAPE = re.compile(r"\\u00([2-6][0-9a-fA-F]|7[0-9a-eA-E])")  # printable ASCII, for which JSON needs no escape
_WORD = re.compile(r"""[^\s"'<>]+""")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{12,}={0,2}(?![A-Za-z0-9+/_=-])")
_USER_AND_PASSWORD = re.compile(r"[!-9;-~]{1,64}:[!-~]{4,}")


def _hides(text: str) -> bool:
    """Tell whether a decoded text holds something that may not be shown."""
    return any(each.search(text) for each in (_KEY_BLOCK, _HEADER, _ASSIGNMENT, _QUOTED, _SCHEME))


def _unless_it_hides(found: re.Match[str]) -> str:
    if "%" not in found[0]:
        return found[0]
    plain = unquote(unquote(found[0]))
    return MASK if _hides(plain) and not _hides(found[0]) else found[0]


def _unless_it_encodes(found: re.Match[str]) -> str:
    raw = found[0].translate(_URL_SAFE).rstrip("=")
    try:
        plain = base64.b64decode(raw + "=" * (-len(raw) % 4), validate=True).decode()
    except ValueError:
        return found[0]
    secret = plain.isprintable() and (_hides(plain) or _USER_AND_PASSWORD.fullmatch(plain) is not None)
    return MASK if secret else found[0]


_URL_SAFE = str.maketrans("-_", "+/")
