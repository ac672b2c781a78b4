"""Which stored entries does a query read? Units, what stands for them, who chooses, and when."""
