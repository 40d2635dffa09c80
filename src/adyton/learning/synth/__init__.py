"""Synthetic tables: a label-aware differentially private synthesizer, and what its output is measured by."""
