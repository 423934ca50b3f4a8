"""Read-only answers for people: summaries, statistics, history."""
