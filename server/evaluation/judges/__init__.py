"""What an answer is: refused or not, harmful or not. base.py has the protocol, each judge a file of its own."""
