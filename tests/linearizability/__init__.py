"""A linearizability checker, and what holds it to known verdicts."""
