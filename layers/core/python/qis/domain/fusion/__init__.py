"""Fusion: from many claims about one thing to one value, with how far to believe it and why.

Pure and without a clock. Statistics are learned from snaps that were decided before (``Memory``), so a
decision depends on the claims and on the past only, and can be derived again from the memory that it was made
with.
"""
