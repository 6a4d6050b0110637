"""Finds gaps, with their reasons and deadlines, and signs the statement that nothing else is missing.

Rules are pure functions of journal, coverage and clock; `observe`, `register`, `reconcile` and `issue` read and write
for them.
"""
