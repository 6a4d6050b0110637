"""Runs the tests as if today were another day: `python3 dev.py dates [DATE …] [arguments for pytest]`."""
