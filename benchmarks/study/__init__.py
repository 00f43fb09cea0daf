"""The parts of `policy_study.py`: each measures one thing and gives what JSON holds, `plots.py` draws it."""
