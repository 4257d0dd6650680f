"""Training, evaluation and what a run leaves on disk."""
