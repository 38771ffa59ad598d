"""The prep server: interview objects, local models, and the wire between them and a terminal."""
