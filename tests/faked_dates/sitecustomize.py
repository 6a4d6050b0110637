"""Signs requests to S3 with the true time while the rest of the process lives in a faked one.

Python imports this module at its start when `tests/faked_dates` is on its path: only under `python3 dev.py dates`. An S3 server
that cannot be faked refuses what is signed for another day than its own.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

if (ahead := os.environ.get("FAKED_BY_SECONDS")) is not None:
    import botocore.auth

    _faked = botocore.auth.get_current_datetime

    def true_time(*arguments: bool, **named: bool) -> datetime:
        found: datetime = _faked(*arguments, **named) - timedelta(seconds=int(ahead))
        return found

    botocore.auth.get_current_datetime = true_time
