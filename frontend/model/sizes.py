"""What is raised where a model has no graph that is symbolic in its sizes."""


class SizesNeededError(Exception):
    """A model whose graph depends on batch, sequence or context; given ones, there is one."""
