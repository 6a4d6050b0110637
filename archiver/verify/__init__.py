"""Checks that every recording which the journal calls archived is really there, whole, locked and accounted for.

Promises: reads only; re-derives every claim from the storage's bytes and the signed events; says what was not checked.
Imports nothing that writes evidence.
"""
