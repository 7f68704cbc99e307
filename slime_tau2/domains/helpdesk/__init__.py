"""The bundled domain; importing it registers it with tau2."""

from pathlib import Path

from slime_tau2.bench import register_domain
from slime_tau2.domains.helpdesk.environment import NAME, get_environment
from slime_tau2.domains.helpdesk.tasks import get_tasks, splits

TOKENIZER = Path(__file__).with_name("tokenizer")
"""Directory of the domain's tokenizer and chat template (`experiments/build_tokenizer.py` builds it)."""
CONTEXT = 32_768
"""Longest sequence of that tokenizer and of its models, in tokens."""
MAX_STEPS = 120
"""Most steps of an episode, wherever one is played to learn from it or to measure what was learned: an expert's longest
case takes 70."""

register_domain(NAME, get_environment, get_tasks, splits)
