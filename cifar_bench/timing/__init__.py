"""Measurements that compare: every engine and run in a process of its own, in shuffled rounds, on an uncontended machine."""
