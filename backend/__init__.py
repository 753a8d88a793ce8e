"""A mapped program becomes time, energy, power and memory."""
