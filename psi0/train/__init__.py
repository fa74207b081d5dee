"""The three training stages on Ray Train and DeepSpeed."""
