"""Turns a selection and a client's request into what the engine gets: as chat messages or as one completion text."""
