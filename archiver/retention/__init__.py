"""Decides how long our copies must be kept, and by which rule. Pure."""
