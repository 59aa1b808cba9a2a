"""Write what transformers 4 makes of the cases in which it does not follow tokenizer.json alone.

`python -m tests.support.tokenizer_goldens` writes tests/workers/compile/checkpoints/tokenizers_of_4.json, in an
environment with transformers 4.57 (it was 4.57.6, with tokenizers 0.22.2), which bertstream itself does not run with.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from tests.support.tokenizer_cases import CASES, PAIRS, TEXTS

PATH = Path(__file__).parent.parent / "workers/compile/checkpoints/tokenizers_of_4.json"
Columns = list[Any]


def columns(encoding: Encoding) -> Columns:
    """Return ids, offsets and type ids, as JSON has them."""
    return [list(encoding.ids), [list(each) for each in encoding.offsets], list(encoding.type_ids)]


def outcomes(tokenizer: Tokenizer) -> dict[str, Columns]:
    """Return the columns of all texts and pairs."""
    found = {text: columns(tokenizer.encode(text)) for text in TEXTS}
    return found | {" | ".join(pair): columns(tokenizer.encode(*pair)) for pair in PAIRS}


def of_transformers(directory: Path) -> dict[str, Columns]:
    """Return what the installed version finds."""
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(directory).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return outcomes(backend)


def of_file(directory: Path) -> dict[str, Columns]:
    """Return what tokenizer.json alone says."""
    return outcomes(Tokenizer.from_file(str(directory / "tokenizer.json")))


def main() -> None:
    """Write the goldens."""
    found: dict[str, dict[str, Columns]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            directory = case.write(Path(folder) / name)
            theirs, alone = of_transformers(directory), of_file(directory)
            found[name] = {text: each for text, each in theirs.items() if each != alone[text]}
    lines = (f"{json.dumps(name)}: {json.dumps(each, ensure_ascii=True)}" for name, each in found.items() if each)
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
