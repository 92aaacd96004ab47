"""How long a training step takes under each rule, and how much memory, beside plain backprop's.

One room per question: what is measured (``case``), what takes the steps (``contender``, and one
file a backend), how time and memory are measured, what is written and drawn.
"""
