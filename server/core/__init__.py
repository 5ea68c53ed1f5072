"""The words of the project as frozen values, and its error tree. Imports nothing else of the project."""
