"""Chores of the project; `make` calls them."""
