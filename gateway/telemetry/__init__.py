"""What the gateway says about itself: counters, access log, process log."""
