"""What float16 can hold of the steps and offsets of codes."""

LARGEST = 65504.0
"""The largest float16; numbers beyond it are coded as if they lay there."""

NARROW = 2.0**-10
"""Groups narrower than this share of their size lie below float16's resolution and count as constant."""

HAIR = 1 + 2.0**-13
"""A step may exceed the exact one by this factor: below half a level in 8 bits, above float32 noise."""
