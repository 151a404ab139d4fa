"""Inner loops over events: serial, because data-loading workers reach them and a forked worker dies in a parallel one."""
