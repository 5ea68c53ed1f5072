"""The files under prompts/: their form (schema), loading (store), and which profile a request gets (resolve)."""
