"""Runs the archive as a process: one sweep, or for ever under supervision, with its duties and its reloads."""
