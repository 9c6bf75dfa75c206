"""Programs that jobs run: trainers of models that Sluice serves."""
