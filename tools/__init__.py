"""Small programs for people who work on Keyvalise; not part of the package."""
