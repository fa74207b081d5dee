"""Where the recipe runs."""
