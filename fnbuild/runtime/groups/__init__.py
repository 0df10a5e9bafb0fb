"""GPU groups: functions of one machine that share the memory of a GPU."""
