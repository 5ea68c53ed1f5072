"""How each aligned endpoint writes a conversation: read into chat messages, written back with the alignment in it."""
