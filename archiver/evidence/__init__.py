"""What leaves the archive to convince a stranger: evidence bundles, and the one-file verifier that travels with each.

Promises: a bundle appears whole or not at all, holds only what it was given, and has passed its own verifier before it gets its
name. Knows custody's pure formats; neither the ledger, nor the store, nor any provider.
"""
