"""Looking into models: which heads do what."""
