"""From a configuration to running parts: the composition root. Decides nothing; only here do all parts know one another."""
