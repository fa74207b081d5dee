"""Deployment bundles and engines."""
