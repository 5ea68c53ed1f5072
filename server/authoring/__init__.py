"""What prompt editors ask of their files: are they sound, what do they do, what does a change do. Prints nothing."""
