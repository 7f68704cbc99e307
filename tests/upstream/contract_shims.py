"""Thin shims for slime's plugin contracts that ask a hook for a side effect that a real one should not have.

Each calls our hook first and then leaves the mark that the contract looks for.
"""

from slime_tau2.hooks import filters, trainer_dump
from slime_tau2.hooks import metrics as log_hooks


def log_rollout(rollout_id, args, samples, rollout_extra_metrics, rollout_time):
    args.logged_rollout_id = rollout_id
    return log_hooks.log_rollout(rollout_id, args, samples, rollout_extra_metrics, rollout_time)


def log_eval(rollout_id, args, data, extra_metrics):
    args.logged_eval_rollout_id = rollout_id
    return log_hooks.log_eval(rollout_id, args, data, extra_metrics)


def rollout_sample_filter(args, groups):
    """The contract wants one of four untouched samples removed; ours removes what ran out of tokens, and only where
    asked to.
    """
    filters.rollout_sample_filter(args, groups)
    filters.flatten(groups)[0].remove_sample = True


def process_all_samples(args, all_groups, data_source):
    filters.process_all_samples(args, all_groups, data_source)
    args.processed_group_count = len(all_groups)


def keep_log_probs(args, rollout_id, rollout_data):
    trainer_dump.keep_log_probs(args, rollout_id, rollout_data)
    args.rollout_data_postprocess_called = True
