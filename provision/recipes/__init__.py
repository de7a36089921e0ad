"""Recipes, locks, bundles and the sequence that joins everything."""
