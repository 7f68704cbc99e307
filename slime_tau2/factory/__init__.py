"""Tasks by the thousand from a domain's databases and policy, with everything that proves them."""
