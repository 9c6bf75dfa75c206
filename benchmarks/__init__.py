"""What Sluice carries beside Triton spoken to directly, and what callers wait (docs/performance-notes.md)."""
