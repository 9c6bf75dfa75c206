"""What people read about releases: text for the terminal, and one self-contained HTML page."""
