"""The prep client: a mock interview in the terminal."""
