"""What a code is given instead of keys and values, and the way back."""
