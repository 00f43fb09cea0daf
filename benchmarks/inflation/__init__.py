"""Inflating a checkpoint: `sizes` says how large, `tensors` what is in it and why that is the same function, `files`
how it is written, and `command` does it.
"""
