"""Makes evidence bundles, which convince a stranger, and the one-file verifier that travels with each bundle.

Promises: a bundle appears whole or not at all, holds only what it was given, and has passed its own verifier before it
gets its name. The package knows custody's pure formats; neither the ledger, nor the store, nor any provider.
"""
