"""Where the bytes of a vault live: one protocol, and an implementation a kind of place."""
