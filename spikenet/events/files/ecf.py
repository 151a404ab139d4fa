from spikenet.events.files.recording import Format
FORMAT = Format("ecf", (".hdf5",), lambda p,h: False, None)
