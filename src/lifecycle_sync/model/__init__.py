"""The nouns: frozen data with the rules that belong to it, standard library only."""
