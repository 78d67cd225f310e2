"""Trains a tiny GPT-2 sharded by FSDP2 in a group of one process; started by test_freezing.py."""
