"""psi0: the Psi-Zero recipe as a pipeline, from demonstrations to a policy with evidence."""

__version__ = "0.1.0"
