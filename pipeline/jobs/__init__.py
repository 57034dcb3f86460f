"""Whole pieces of work that a command starts: the one-shot job and its repetition, backtest, tuning, report and demo.

Each puts the other folders to work in order; nothing but the command line imports from here.
"""
