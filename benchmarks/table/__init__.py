"""README's table of speeds, drawn from the result files."""
