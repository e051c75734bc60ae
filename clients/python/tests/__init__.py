"""Tests of the client against nodes that are played; tests/show/python.sh has real ones."""
