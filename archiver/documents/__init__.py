"""Draws documents for people: PDF pages and their fonts. Knows nothing of what the documents say."""
