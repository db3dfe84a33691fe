#!/usr/bin/env python3
"""make_splits.py OUT: the splits of reports B and C, 700/150/150 of 1000 series: B shuffles with NumPy's RandomState(42),
C with default_rng(42). Members "b" and "c", each with train, validation and test."""
import json
import sys

import numpy as np


def parts(order):
    order = [int(i) for i in order]
    return dict(train=order[:700], validation=order[700:850], test=order[850:])


splits = dict(b=parts(np.random.RandomState(42).permutation(1000)), c=parts(np.random.default_rng(42).permutation(1000)))
with open(sys.argv[1], "w") as file:
    json.dump(splits, file)
    file.write("\n")
