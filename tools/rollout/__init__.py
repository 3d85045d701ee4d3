"""Rollouts: traffic of a deployed model, moved by edits of the stack's file, step by step on verdicts."""
