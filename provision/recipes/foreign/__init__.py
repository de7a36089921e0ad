"""Recipes in other tools' words: reading theirs, writing ours."""
