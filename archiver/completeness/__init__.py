"""What is missing, why, until when it can still be had, and the signed statement that nothing else is.

Rules are pure functions of journal, coverage and clock; `observe`, `register`, `reconcile` and `issue` read and write for them.
"""
