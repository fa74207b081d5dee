"""Which seeds train and which judge."""

TRAINING_SEEDS_END = 500_000
"""Seeds below this one make demonstrations."""
EVALUATION_SEEDS_START = 700_000
"""Seeds from this one on judge; those between belong to nobody: development and tests use them."""
