"""Finds and downloads recordings at telephony providers: one thin adapter per provider over one HTTP client.

Promises: a listing is complete or the call raises; credentials are sent to their own origin only; no host outside the
allow-list is contacted. The package knows nothing of the journal, the spool or the store.
"""
