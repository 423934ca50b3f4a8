"""Versions of content: packs, objects and manifests, found through an index that may be lost."""
