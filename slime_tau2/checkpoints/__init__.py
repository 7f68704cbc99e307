"""Megatron's torch_dist checkpoints -> Hugging Face model directories, without Megatron and without a GPU."""
