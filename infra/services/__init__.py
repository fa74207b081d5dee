"""The services on this machine: S3, MLflow, Prefect, its worker and a Ray head, kept by supervisor."""
