"""Where recordings come from: one thin adapter per provider over one HTTP client.

Promises: a listing is whole or it raises; credentials go to their own origin only; nothing outside the allow-list is
contacted. Knows nothing of the journal, the spool or the store.
"""
