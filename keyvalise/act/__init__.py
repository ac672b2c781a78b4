"""What happens to the entries that were not chosen."""
