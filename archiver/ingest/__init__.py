"""Joins the stages of the one-way pipe: list → fetch → seal → store → custody. No other package joins them.

Promises: every effect is preceded by a durable intent or can be repeated; running the same plan again repairs a crash
at any point. The journal is working state: losing the journal costs work, never evidence.
"""
