"""Is this deployment right? Checks with thresholds and a verdict."""
