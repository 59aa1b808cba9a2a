"""List the families of encoders.

To add one, add a file here and a place in the list below.
"""

from bertstream.workers.compile.checkpoints.families.albert import ALBERT
from bertstream.workers.compile.checkpoints.families.bert import BERT
from bertstream.workers.compile.checkpoints.families.deberta import DEBERTA
from bertstream.workers.compile.checkpoints.families.distilbert import DISTILBERT
from bertstream.workers.compile.checkpoints.families.electra import ELECTRA
from bertstream.workers.compile.checkpoints.families.family import Family, Head
from bertstream.workers.compile.checkpoints.families.gte import GTE, NEW
from bertstream.workers.compile.checkpoints.families.jina import JINA_BERT
from bertstream.workers.compile.checkpoints.families.jina_v3 import JINA_V3, JINA_XLM_ROBERTA
from bertstream.workers.compile.checkpoints.families.modernbert import MODERNBERT
from bertstream.workers.compile.checkpoints.families.mpnet import MPNET
from bertstream.workers.compile.checkpoints.families.nomic_bert import NOMIC_BERT
from bertstream.workers.compile.checkpoints.families.roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA

__all__ = ["FAMILIES", "Family", "Head"]

# Keyed by config.json's model_type, where a family has its own.
FAMILIES = {
    family.name: family
    for family in (
        *(BERT, ROBERTA, XLM_ROBERTA, CAMEMBERT, DISTILBERT, ELECTRA, MPNET),
        *(MODERNBERT, NOMIC_BERT, GTE, NEW),
        *(DEBERTA, ALBERT, JINA_BERT, JINA_V3, JINA_XLM_ROBERTA),
    )
}
