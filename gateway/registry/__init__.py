"""What versions exist and which of them should be served."""
