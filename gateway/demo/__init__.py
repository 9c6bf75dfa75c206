"""Thin clients of the running gateway for the three demo models: classify a picture, compare sentences, score rows."""
