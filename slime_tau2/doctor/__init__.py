"""`slime-tau2 doctor`: is everything here that a run needs, and if not, what to do about it.

`findings` says what a check returns and shows it, `installation` looks at this machine, `models` at a model's files,
`servers` asks what is running. A check never raises: what goes wrong in it is its finding.
"""
