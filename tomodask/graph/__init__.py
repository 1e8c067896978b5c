"""One module per step of the pipeline: lazy arrays and tasks over chunks, nothing computed."""
