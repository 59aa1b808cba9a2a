"""Call with the generated stubs alone, as a caller in any language does: `python examples/raw_grpc.py [ADDRESS]`."""

from __future__ import annotations

import struct
import sys

import grpc

from bertstream.v1 import encoding_pb2 as encoding
from bertstream.v1 import encoding_pb2_grpc as services
from bertstream.v1.types_pb2 import TextBatch, Texts

options = encoding.EncodingOptions(pooling=encoding.PoolingOptions(mode=encoding.POOLING_MODE_MEAN, normalize=True))
batches = [["first", "second"], ["third"]]
requests = [encoding.StreamEncodingsRequest(options=options)]
for number, texts in enumerate(batches):
    items = encoding.EncodingItems(first_id=100 * number, inputs=TextBatch(texts=Texts(texts=texts)))
    requests.append(encoding.StreamEncodingsRequest(items=items))
with grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051") as channel:
    for response in services.EncodingServiceStub(channel).StreamEncodings(iter(requests), timeout=30):
        if response.WhichOneof("event") == "started":
            print("window:", response.started.window.max_items, "items")
            continue
        pooled = response.items.encodings.pooled
        rows, width = pooled.shape
        for row, vector in enumerate(struct.iter_unpack(f"<{width}f", pooled.data)):
            print(response.items.ids[row], f"{width} numbers, the first is {vector[0]:+.4f}")
