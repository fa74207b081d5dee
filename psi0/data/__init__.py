"""Formats in, LeRobot v3.0 inside: importers, statistics, quality, training tensors."""
