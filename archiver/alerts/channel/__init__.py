"""Channels, the ways to reach people: webhook, mail, and Apprise."""
