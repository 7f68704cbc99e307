"""slime_tau2: train a tool-using agent over many turns on tau2-bench, with slime or on one machine.

Nothing is imported here: hooks, episode core and local engine are imported by the path that needs them.
"""

__version__ = "0.3.0"
