"""Many designs of a space, and which of them are best: the search behind `wscc-dse`.

A study asks a strategy for designs, has an evaluator judge them at a fidelity, keeps every trial in
a store, and stops when its budget is spent.
"""
