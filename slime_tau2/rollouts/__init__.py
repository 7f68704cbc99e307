"""`slime-tau2 rollouts`: a training's rollouts, read by a person: step, group, sample, turn, token."""
