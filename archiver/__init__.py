"""Compliance archiver: call recordings, saved before the provider deletes them, sealed, locked and provable."""

__version__ = "0.1.0"
