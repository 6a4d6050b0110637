"""The one-way pipe: list → fetch → seal → store → custody, joined here and nowhere else.

Promises: every effect is preceded by a durable intent or is repeatable; running the same plan again repairs a death at any
point. The journal is working state: losing it costs work, never evidence.
"""
