"""FAST tokens, System-2, System-1 and flow matching."""
