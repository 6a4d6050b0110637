"""Objects that cannot be overwritten: S3 with Object Lock, or a directory.

Promises: put once, read back what was really kept, and never call an object locked that the storage did not show so.
Knows nothing of providers, the spool or the journal.
"""
