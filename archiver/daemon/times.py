"""States how long the daemon waits for what, and how often it does its duties."""

from __future__ import annotations

from datetime import timedelta

HEARTBEAT = timedelta(seconds=15)
ALIVE = timedelta(seconds=45)  # how long a heartbeat counts
HOUSEKEEPING = timedelta(seconds=2)
PAST = timedelta(minutes=5)  # for listing missed windows, before new ones are listed again
IDLE = timedelta(seconds=5)  # of a worker, until it looks for work without being told
REPROBE_REFUSED = timedelta(seconds=30)
SAID_AGAIN = timedelta(minutes=15)  # between two lines of the log about a disk without room
PATIENCE = timedelta(seconds=60)  # of a single sweep, for what may become ready

DRAIN = timedelta(seconds=18)  # with the two below it fits into the 25 s of a stop
FAREWELL = timedelta(seconds=3)  # for the log's last turn
GOODBYE = timedelta(seconds=1)  # for each last write to the database, and for cancelled tasks
