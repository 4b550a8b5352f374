"""Running vendor programs: on this machine, in a container, on another machine; and installing one."""
