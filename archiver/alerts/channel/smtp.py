"""Mail by SMTP (RFC 5321): STARTTLS (RFC 3207) or TLS from the start (RFC 8314), verified; plain only where it is
configured.

The library blocks, so it runs in a thread of this channel's. The configured security is never lowered: a server without
STARTTLS is refused, and a password is never sent over a plain connection.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

from archiver.alerts.message import Message
from archiver.alerts.rule import Severity
from archiver.clock import Clock
from archiver.errors import ConfigurationError, UnavailableError
from archiver.recording import Secret

_STEP = timedelta(seconds=20)
_LONGEST = timedelta(seconds=80)
PORTS = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """The mail server, the sender and the recipients. `security` "none" sends in clear and takes no password."""

    id: str
    host: str
    sender: str
    to: tuple[str, ...]
    port: int | None = None
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: Secret | None = None
    ca_bundle: Path | None = None


class Smtp:
    """Sends one mail for each message, to all recipients at once."""

    def __init__(self, options: SmtpOptions, clock: Clock, *, step: timedelta = _STEP) -> None:
        """`step` bounds each exchange with the server. Connects to nothing yet. Raises `ConfigurationError`."""
        if options.password is not None and options.security == "none":
            raise ConfigurationError(f"{options.id}: a password is sent only over TLS")
        self.id = options.id
        self._options = options
        self._clock = clock
        self._step = step
        # Its own threads: a server or a name that hangs keeps one, and must not take it from other parts.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix=f"channel-{options.id}")
        try:
            self._tls = ssl.create_default_context(cafile=options.ca_bundle)
        except OSError as exc:
            raise ConfigurationError(f"{options.id}: ca_bundle cannot be used: {exc.strerror or exc}") from exc
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2

    async def send(self, message: Message) -> str:
        mail = self._mail(message)
        try:
            async with asyncio.timeout(_LONGEST.total_seconds()):
                refused = await asyncio.get_running_loop().run_in_executor(self._threads, self._deliver, mail)
        except TimeoutError:
            raise UnavailableError(f"{self._options.host}: it took too long") from None
        return f"{refused} of {len(self._options.to)} recipients were refused" if refused else ""

    async def aclose(self) -> None:
        """Release the threads; each mail has its own connection."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = self._options.sender
        mail["To"] = ", ".join(self._options.to)
        mail["Subject"] = message.title
        mail["Date"] = format_datetime(self._clock.now())
        # The id is the same for the same news: mail programs then show a repetition only once.
        mail["Message-ID"] = f"<{message.id}@{self._options.sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: keeps absence notices from answering
        if message.severity is Severity.PAGE and not message.resolved:
            mail["Importance"] = "high"
        mail.set_content(message.text)
        return mail

    def _deliver(self, mail: EmailMessage) -> int:
        """Sends the mail. Returns the number of recipients that were refused while others were accepted."""
        options = self._options
        with _translated(options.host), self._connected() as server:
            if options.security == "starttls":
                server.starttls(context=self._tls)
            if options.user is not None and options.password is not None:
                server.login(options.user, options.password.reveal())
            return len(server.send_message(mail, options.sender, list(options.to)))

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        options, seconds = self._options, self._step.total_seconds()
        port = options.port or PORTS[options.security]
        server = (
            smtplib.SMTP_SSL(options.host, port, timeout=seconds, context=self._tls)
            if options.security == "tls"
            else smtplib.SMTP(options.host, port, timeout=seconds)
        )
        try:
            yield server
        finally:
            # No QUIT: a message that was accepted stays accepted, even if the server fails at the goodbye.
            server.close()


@contextmanager
def _translated(host: str) -> Iterator[None]:
    """Turns the library's errors into the archiver's, without the server's own words, which repeat addresses."""
    try:
        yield
    except ssl.SSLCertVerificationError as exc:
        raise UnavailableError(f"{host}: TLS: {exc.verify_message}") from None
    except smtplib.SMTPRecipientsRefused:
        raise UnavailableError(f"{host} refused every recipient") from None
    except smtplib.SMTPResponseException as exc:
        raise UnavailableError(f"{host} answered {exc.smtp_code}") from None
    except smtplib.SMTPNotSupportedError:
        raise UnavailableError(f"{host} does not offer what is configured (STARTTLS or a login)") from None
    except smtplib.SMTPServerDisconnected:
        raise UnavailableError(f"{host} closed the connection") from None
    except (smtplib.SMTPException, OSError, ValueError) as exc:  # ValueError: an address that is none
        raise UnavailableError(f"{host}: {type(exc).__name__}") from None
