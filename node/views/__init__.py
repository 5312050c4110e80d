"""Draw what is in a data set, for eyes at the node only.

These modules load the libraries of the data, so only short-lived processes import them.
"""
