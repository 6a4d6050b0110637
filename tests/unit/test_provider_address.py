"""Links as providers write them: read, nothing, or not understood, and never one for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.providers.address import Address, OddLinkError, read_address
from archiver.providers.rows import Blemish, NumberText

API = "https://api.plivo.com"
LINK = "https://media.plivo.com/v1/x.mp3"


def read(value: object, **options: object) -> Address | None:
    return read_address(value, **{"allow_http": False, "base_url": API, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, "", "  ", "\n", "\u200b"])
def test_nothing_is_nothing(value: object) -> None:
    assert read(value) is None


def test_a_plain_http_link_is_asked_for_over_https_unless_allowed() -> None:
    old = "http://s3.amazonaws.com/recordings_2013/x.mp3"
    assert read(old) == Address("https://s3.amazonaws.com/recordings_2013/x.mp3")
    assert read(old, allow_http=True) == Address(old)
    assert read("http://127.0.0.1:8080/x") == Address("http://127.0.0.1:8080/x")


def test_a_link_without_a_scheme_has_that_of_the_api() -> None:
    assert read("//media.plivo.com/x.mp3") == Address("https://media.plivo.com/x.mp3")
    told = {"allow_http": True, "base_url": "http://pbx.example:8000"}
    assert read("//pbx.example/x.mp3", **told) == Address("http://pbx.example/x.mp3")


@pytest.mark.parametrize(
    "link",
    [
        LINK, f"{LINK}?a=b&c=d%20e", "HTTPS://Media.Plivo.com/x.mp3", "https://media.plivo.com/o'brien (1).mp3",
        "https://media.plivo.com/get?u=https://other.example/x.mp3", "https://user:word@media.plivo.com/x.mp3", f"  {LINK}\n",
    ],
)  # fmt: skip
def test_what_is_a_link_stays_as_it_is(link: str) -> None:
    found = read(link)
    assert found is not None
    assert (found.url, found.guessed) == (link.strip(), False)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("/v1/x.mp3", f"{API}/v1/x.mp3"),
        ("v1/x.mp3?sig=1", f"{API}/v1/x.mp3?sig=1"),
        ("x.wav", f"{API}/x.wav"),
        ("media.plivo.com/v1/x.mp3", LINK),
        ("media.plivo.com:8443/x", "https://media.plivo.com:8443/x"),
        ("127.0.0.1:8000/m/x.mp3", "https://127.0.0.1:8000/m/x.mp3"),
        ("localhost:8000/m/x", "https://localhost:8000/m/x"),
        ("[::1]:8000/m/x", "https://[::1]:8000/m/x"),
        ("recordings.2013/x.mp3", f"{API}/recordings.2013/x.mp3"),
        ([LINK], LINK),
        ([LINK, LINK], LINK),
        ({"mp3": LINK}, LINK),
        ({"url": LINK, "seconds": 12, "format": "mp3"}, LINK),
        ([{"url": LINK}], LINK),
        (f'"{LINK}"', LINK),
        (f"'{LINK}'", LINK),
        (f"<{LINK}>", LINK),
        (f"`{LINK}`", LINK),
        (f"({LINK})", LINK),
        (f"[Recording]({LINK})", LINK),
        (f'<a href="{LINK}">{"play"}</a>', LINK),
        (f"Recording: {LINK}", LINK),
        (f"{LINK} (expires soon)", LINK),
        (f"{LINK};", LINK),
        (f"{LINK}?a=1&amp;b=2", f"{LINK}?a=1&b=2"),
        (f"{LINK}?a=1&#38;b=2", f"{LINK}?a=1&b=2"),
        ("https%3A%2F%2Fmedia.plivo.com%2Fv1%2Fx.mp3%3Fa%3D1", f"{LINK}?a=1"),
        (r"https:\/\/media.plivo.com\/v1\/x.mp3", LINK),
        ("https:/media.plivo.com/v1/x.mp3", LINK),
        ("https:media.plivo.com/v1/x.mp3", LINK),
        ("https://media.plivo.com/v1/\nx.mp3", LINK),
        ("https://aufnahmen.münchen.example/x.mp3", "https://aufnahmen.xn--mnchen-3ya.example/x.mp3"),
    ],
)
def test_what_can_be_read_is_read(value: object, url: str) -> None:
    found = read(value)
    assert found is not None
    assert found.url == url


@pytest.mark.parametrize("value", ["/v1/x.mp3", "media.plivo.com/v1/x.mp3", [LINK], f"<{LINK}>", f"{LINK}?a=1&amp;b=2"])
def test_what_had_to_be_mended_says_so(value: object) -> None:
    found = read(value)
    assert found is not None
    assert found.guessed


@pytest.mark.parametrize(
    "value",
    [
        "N/A", "none", "null", "file:///etc/passwd", "s3://bucket/x.mp3", "ftp://host/x.mp3", "data:audio/mpeg;base64,AAAA",
        "javascript:alert(1)", "http://[::1", "http:///x", "http://a:99999/", "///x", "//", "?x", "#", "https://",
        7, 0, 1.5, True, False, [], {}, [None], [LINK, "https://media.plivo.com/other.mp3"], {"mp3": LINK, "wav": f"{LINK}2"},
        f"{LINK} https://media.plivo.com/other.mp3", NumberText("0.5"), Blemish("a key that stands twice"), b"x",
        [[[[LINK]]]], "https:/x.mp3", "recording pending", "http://\u2100.example/x",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_not_nothing(value: object) -> None:
    with pytest.raises(OddLinkError):
        read(value)


texts = st.one_of(
    st.text(), st.text("htps:/\\.&;%3A2F[]()<>\"'`?#@ \n", max_size=40), st.text().map(lambda each: f"https://{each}")
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(values)
def test_no_value_makes_it_fail_or_gives_anything_but_a_web_link(value: object) -> None:
    try:
        found = read(value)
    except OddLinkError:
        return
    assert found is None or found.url.lower().startswith(("https://", "http://"))
