"""What a run would do, take and need, told before it starts."""
