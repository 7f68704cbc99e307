"""Is a task what it says it is? Seven checks that need neither a model nor a network.

`verify` makes them; `checks` names what each of them can find.
"""
