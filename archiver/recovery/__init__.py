"""Makes the journal again from the log and the catalogue, after a lost database or an old backup; writes that
catalogue."""
