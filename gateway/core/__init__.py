"""The pure core: decides, performs nothing. Time and randomness are arguments; everything here can be replayed."""
