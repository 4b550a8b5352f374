"""Measuring: the timing loop, the trace, the statistics, the performance summary and trtexec's logs and files.

Shared by all targets. Knows no backend, no click and no option table.
"""
