"""Places that keep named bytes, published whole or not at all, and the shelf that lies on one of them."""
