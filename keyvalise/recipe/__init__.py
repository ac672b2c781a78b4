"""What a recipe is: its object, its text, its bytes, and whether its parts fit together."""
