"""Load tests with locust: what users of all protocols see while the load changes and versions are swapped."""
