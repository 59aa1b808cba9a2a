"""Encode lines of stdin to a .npy file, in constant memory: `… | python examples/bulk_file.py OUT.npy [ADDRESS]`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from bertstream.client import Client

output, address = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:50051"
rows = 0
with Client(address) as client, output.open("wb") as file:
    model = client.model()
    width = model.default_pooling.dimensions or model.hidden_size

    def header() -> None:
        """Write the header, in which NumPy leaves room for any number of rows, so that it can be written again."""
        shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(file, shape)

    header()
    for batch in client.encode_stream((line.rstrip("\n") for line in sys.stdin), progress=True):
        file.write(batch.vectors.tobytes())
        rows += len(batch)
    file.seek(0)
    header()
print(f"{output.name}: {rows} rows of {width}")
