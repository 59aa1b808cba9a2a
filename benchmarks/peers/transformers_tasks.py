"""transformers' pipelines, its `generate`, and its hidden states, in batches of texts sorted by length.

The option "use" says which, as in tasks_client.py. Version 5 has no pipeline of answers: there it is the model, and the
best span of each text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForQuestionAnswering, AutoTokenizer, pipeline

from benchmarks.peers import Choice, Peer, Settings, Vectors
from benchmarks.peers.torch_settings import set_threads

NOTHING = np.empty((0, 0), np.float32)
PIPELINES = {"fill_mask": "fill-mask", "entities": "token-classification", "rerank": "text-classification"}
MODELS = {"answer": AutoModelForQuestionAnswering, "generate": AutoModelForCausalLM, "layers": AutoModel}


class TransformersTasks(Peer):
    """An adapter for what transformers offers for a use."""

    def __init__(self, settings: Settings) -> None:
        set_threads(settings)
        self.settings, self.use = settings, settings.options["use"]
        self.together = int(settings.options["together"])
        self.tokenizer = AutoTokenizer.from_pretrained(settings.directory, model_max_length=settings.max_length)
        if self.use in PIPELINES:
            self.pipeline = self._pipeline(PIPELINES[self.use])
        else:
            self.model = MODELS[self.use].from_pretrained(settings.directory).eval()

    def _pipeline(self, task: str) -> Any:
        more = {"aggregation_strategy": "simple"} if self.use == "entities" else {}
        made: Any = pipeline
        return made(task, model=self.settings.directory, tokenizer=self.tokenizer, device=-1, **more)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that compute."""
        return {"transformers": transformers.__version__, "torch": torch.__version__}

    def choices(self) -> Sequence[Choice]:
        """Return the batch sizes that are worth trying; what is asked in calls of a size has no choice."""
        return (Choice(self.together),) if self.together else (Choice(32), Choice(8))

    def ready(self, texts: list[Any]) -> Any:
        """Return the texts sorted by length, so that batches have little padding, in the pipeline's form."""
        ordered = sorted(texts, key=lambda text: len(text if isinstance(text, str) else text[1]))
        return [{"text": each[0], "text_pair": each[1]} for each in ordered] if self.use == "rerank" else ordered

    @torch.inference_mode()
    def encode(self, texts: Any, choice: Choice) -> Vectors:
        """Do all of it, and drop the answers."""
        if self.use in PIPELINES:
            cut = {} if self.use == "entities" else {"truncation": True}
            if self.use == "fill_mask":
                cut = {"tokenizer_kwargs": cut}  # type: ignore[dict-item]  # as this pipeline takes it
            self.pipeline(texts, batch_size=choice.batch_size, **cut)
        else:
            for start in range(0, len(texts), choice.batch_size):
                getattr(self, f"_{self.use}")(texts[start : start + choice.batch_size])
        return NOTHING

    def _answer(self, pairs: Sequence[tuple[str, str]]) -> None:
        inputs = self._inputs([first for first, _ in pairs], [second for _, second in pairs])
        found = self.model(**inputs)
        scores = found.start_logits.unsqueeze(2) + found.end_logits.unsqueeze(1)  # [b, s, s]
        scores.triu().flatten(1).argmax(1).tolist()

    def _layers(self, texts: Sequence[str]) -> None:
        states = self.model(**self._inputs(texts), output_hidden_states=True).hidden_states
        for state in states:
            state.numpy()

    def _generate(self, texts: Sequence[str]) -> None:
        inputs = self._inputs(texts)
        new, beams = int(self.settings.options["tokens"]), int(self.settings.options["beams"])
        found = self.model.generate(
            inputs["input_ids"][:, :-1],  # without [SEP], after which nothing would come
            attention_mask=inputs["attention_mask"][:, :-1],
            max_new_tokens=new,
            min_new_tokens=new,
            num_beams=beams,
            do_sample=False,
            pad_token_id=0,
        )
        self.tokenizer.batch_decode(found, skip_special_tokens=True)

    def _inputs(self, *columns: Sequence[str]) -> Any:
        return self.tokenizer(*map(list, columns), padding=True, truncation=True, return_tensors="pt")


def load(settings: Settings) -> TransformersTasks:
    """Return the adapter."""
    return TransformersTasks(settings)
