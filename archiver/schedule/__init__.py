"""Decides when to act: deadlines, windows, leases, rate budgets and the ticker.

Promises: a due time is a pure function of the known facts and the time; leases and budgets go by the database's clock
and are shared by all replicas; the ticker only ticks.
"""
