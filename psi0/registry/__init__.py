"""MLflow runs, model versions, aliases and evidence."""
