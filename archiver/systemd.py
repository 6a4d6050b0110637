"""Speaks sd_notify(3): readiness, status line and watchdog, in the few lines that the protocol needs."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta


def notify(*lines: str) -> bool:
    """Tell the service manager; return False when there is none (no NOTIFY_SOCKET) or it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)
            channel.sendall("\n".join(lines).encode())
    except OSError:
        return False
    return True


def reloading() -> bool:
    """Send RELOADING=1, which counts only with the time (systemd.service(5), Type=notify-reload); older managers ignore
    it."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_interval() -> timedelta | None:
    """Return the interval for WATCHDOG=1: half of what the manager allows; None when it does not watch this process."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not microseconds or not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return timedelta(microseconds=int(microseconds)) / 2
