"""What the operator wants: one strict YAML file, read whole, with every mistake in it named at once."""
