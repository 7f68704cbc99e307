"""Dumps of rollouts: what one step of a training was made of, as files that are read while it goes on."""
