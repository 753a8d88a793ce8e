"""wscc: large language models compiled onto wafer-scale chips."""

__version__ = "0.1.0"
