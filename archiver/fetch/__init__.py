"""Turns an open download into bytes that are safe: receives, judges and spools them (ARCHITECTURE.md, steps 4 and
5)."""
