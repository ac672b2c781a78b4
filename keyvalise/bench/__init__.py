"""Measuring recipes: one shared prefill, right answers, attention-output error, bytes, time, a report."""
