"""The two gates of continuous integration: quality against a baseline of scores, speed against one of ratios.

`check` compares the records of a results folder with `baseline` rows, and `formats` writes its verdicts for other
programs; `speed_ratios` compares rows of `harness bench`. Both gates give a `verdict` per row, a table and an exit
status: 0 pass, 1 regression, 2 bad input, 3 not comparable. Imports no torch.
"""

__all__ = ["baseline", "calibrate", "check", "formats", "speed_ratios", "verdict"]
