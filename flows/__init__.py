"""How the recipe runs: Prefect flows over the DVC graph."""
