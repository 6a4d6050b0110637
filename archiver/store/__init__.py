"""Stores objects that cannot be overwritten: in S3 with Object Lock, or in a directory.

Promises: put once, read back what was really kept, and never call an object locked that the storage did not show as
locked. The package knows nothing of providers, the spool or the journal.
"""
