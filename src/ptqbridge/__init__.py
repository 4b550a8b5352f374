"""ptqbridge: trtexec-style options in; one model built, checked and timed on NVIDIA, Horizon or this CPU."""

import os

__version__ = "0.1.0"

# ONNX Runtime's wheels from 1.32 on report usage over the network and leave a session file in the temporary folder.
# Nothing here may use the network, so that is switched off before anything can import it; a value set outside wins.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
