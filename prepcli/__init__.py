"""The prep client: mock interviews in the terminal."""
