"""Seals and opens objects: CMS AuthEnvelopedData, written in one pass and opened in two (docs/spec/sealed-object.md).

Promises: a data key seals one recording only; no plaintext is released before the tag over the whole has been verified.
Knows nothing of providers, the spool, the store or custody.
"""
