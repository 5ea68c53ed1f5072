"""Chooses demonstrations and principles for a request: embedder, index, risk, selector; retriever.py joins them."""
