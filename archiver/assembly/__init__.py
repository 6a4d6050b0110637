"""Builds the running parts from a configuration: the composition root. Decides nothing; only here all parts meet."""
