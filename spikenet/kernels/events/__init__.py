"""Inner loops over events. All are serial: data workers reach them, and a forked worker dies in a parallel one."""
