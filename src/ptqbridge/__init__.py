"""ptqbridge: trtexec-style options in; one model built, checked and timed on NVIDIA, Horizon or this CPU."""

__version__ = "0.1.0"
