"""When: deadlines, windows, leases, rate budgets and the ticker.

Promises: due-ness is a pure function of what is known and the time; leases and budgets go by the database's clock and are shared
by all replicas; the ticker only ticks.
"""
