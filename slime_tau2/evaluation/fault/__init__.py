"""Whose fault a failed conversation was, where a check can prove it: agent, user simulator or reference."""
