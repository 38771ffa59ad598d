"""The prep server: durable interviews, local models and the protocol that clients speak."""
