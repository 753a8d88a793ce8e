"""The command `wscc-dse`: a search, and the verbs on the study that it leaves."""
