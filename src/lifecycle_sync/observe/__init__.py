"""From the world to facts: the walker, the ignore rules, the hasher, the identity of a root."""
