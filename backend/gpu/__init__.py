"""A core of many multiprocessors: what the kernels of a GPU take, by tiles, waves and traffic."""
