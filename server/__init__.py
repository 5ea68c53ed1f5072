"""icalign: an in-context alignment inference server. Start reading at pipeline.py; app.py puts the parts together."""
