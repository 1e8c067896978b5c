"""Alignment of tilt series without gold: the specimen itself is what is tracked."""
