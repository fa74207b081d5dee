"""Recorders write raw episodes in the layouts that a person would download, so that nothing downstream knows them."""
