"""The record of one request: what was applied, what it cost, how it ended."""
