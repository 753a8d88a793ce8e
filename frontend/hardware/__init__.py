"""A `.wsc` file becomes a hardware space, and a choice of its parameters becomes Hardware."""
