"""HTTP: routers by endpoint family with handlers of a few lines, the error table, and the bytes of every answer."""
