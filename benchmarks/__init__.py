"""Measures Tallybook beside what a competent hand would write instead: `python -m benchmarks`.

Only ratios carry over from one machine to another, so everything is measured next to its yardstick,
in turns, on one durable server that is made for the run and removed with it.
"""
