"""The demo: provider simulators and a workspace that shows the archiver at work."""
