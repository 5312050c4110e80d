"""Measure Warren; `make bench` prints the figures. Nothing here passes or fails."""
