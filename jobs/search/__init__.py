"""Hyper-parameter search: an Optuna study whose trials are ordinary jobs. Needs the extra `jobs`."""
