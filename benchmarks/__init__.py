"""streamd beside the reference server: `python -m benchmarks` measures both in turn and prints
medians and ratios.

The walk: `__main__` picks rows and software, `rows` names every row with its target, a row's
sampler starts one fresh `server`, lets a `crew` of forked generator processes loose on it and hands
back one figure; `report` and `plot` show them. The generator is raw sockets and prebuilt frames;
nothing else stands on the path. Not here: correctness (see tests/).
"""
