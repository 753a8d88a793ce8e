"""Model graph and hardware become a mapped program, one decision a pass."""
