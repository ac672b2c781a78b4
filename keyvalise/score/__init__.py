"""How much every entry matters, and what scores go through before a decision (the room "rescore")."""
