"""Shows the archiver at work, with provider simulators and a workspace."""
