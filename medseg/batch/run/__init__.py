"""The parent of the workers: hands out cases, hears heartbeats, claims shared work, and loses nothing."""
