"""What is measured, a file for each measure; base.py has the protocol."""
