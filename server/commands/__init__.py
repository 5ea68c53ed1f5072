"""The commands of the prompt editor, one file each; they and cli.py are all that prints."""
