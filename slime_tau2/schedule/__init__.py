"""Which task comes next, and where in it a group begins. Knows tasks and outcomes; no samples, no slime."""
