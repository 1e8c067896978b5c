"""Formats in, the project's objects out, and back: one module per format."""
