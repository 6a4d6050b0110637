"""The transparency log over custody events: a Merkle tree that a notary signs, witnesses cosign, and storages publish.

The layer above `custody`: it takes events from the ledger's queue, and proves to anybody that none was changed or left
out.
"""
