"""Training of networks on a data set of the user."""
