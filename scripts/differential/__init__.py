"""The parts of scripts/differential.py."""
