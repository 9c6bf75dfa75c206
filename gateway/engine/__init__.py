"""The engine: owns tasks, timers and queues, and does exactly what the core decides."""
