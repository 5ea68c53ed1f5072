"""What `icalign check` looks for beyond what loading refuses, a file for each kind; base.py has what they share."""
