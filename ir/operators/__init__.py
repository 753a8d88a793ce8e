"""The operator kinds, a module for each group: declarations, references and gradients together."""
