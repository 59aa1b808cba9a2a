"""Draw a map and make frames, as in a notebook, and print what is in them as JSON: `notebook.py ADDRESS TEXT …`."""

from __future__ import annotations

import io
import json
import sys

from bertstream.client import Client, HeatMap

address, *texts = sys.argv[1:]
with Client(address) as client:
    (outputs,) = client.forward(texts[0], ["attentions"])
    (tokens,) = client.tokenize(texts[0])
    (batch,) = client.encode_stream(texts, progress="bar")
similarities = HeatMap.of_similarities(texts, batch.vectors)
figures = [outputs.attention_map().plot(), outputs.attention_maps().plot(), similarities.plot()]
sizes = []
for figure in figures:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    sizes.append(len(picture.getvalue()))
json.dump(
    {
        "axes": [len(figure.axes) for figure in figures],
        "labels": [label.get_text() for label in figures[0].axes[0].get_yticklabels()],
        "sizes": sizes,
        "tokens": tokens.to_pandas()["token"].tolist(),
        "vectors": batch.to_pandas().to_numpy().tolist(),
        "itself": similarities.to_pandas().loc[texts[0], texts[0]].item(),
    },
    sys.stdout,
)
