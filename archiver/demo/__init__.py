"""Shows the archiver at work, with provider simulators and a workspace."""

LACKING = "the demo needs packages that the archiver does not: pip install 'compliance-archiver[demo]'"
