"""The operator's listener: metrics, health, models, the status page."""
