"""The client as others' frameworks want it; each module needs its own framework, and says so where that is missing.

langchain: `BertstreamEmbeddings`, an `Embeddings` of LangChain.
llama_index: `BertstreamEmbedding` and `BertstreamRerank`, an embedding and a node post-processor of LlamaIndex.
haystack: `BertstreamTextEmbedder` and `BertstreamDocumentEmbedder`, components of Haystack.
chroma: `BertstreamEmbeddingFunction`, an embedding function of Chroma.
sentence_transformers: `SentenceTransformer`, with the methods of that library's class. It needs the client alone.
"""
