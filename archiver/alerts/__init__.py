"""Tells people what is wrong: rules and routes (pure), the state of each alert (SQL), channels, and the dead man's
switch."""
