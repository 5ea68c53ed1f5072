"""Engines run prompts. Their currency is the OpenAI request and response body; see base.py."""
