"""Reads the operator's configuration: one strict YAML file, in which all mistakes are named at once."""
