"""From a plan to the world: what changes files, each change checked at the moment it is made."""
