"""Layers with a scan or a short convolution, their inner loops replaced by operators of ours.

Transformers computes them by functions of each modeling module (`mamba2_chunk_scan`), which loop
over the sequence or pad it to chunks. `install` gives every layer that calls such functions a
forward pass that calls ours (functions.py) instead; the rest of the layer stays as it is.
"""

from .install import install

__all__ = ["install"]
