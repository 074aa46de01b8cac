"""Backends under test: how each runtime of this machine is opened to be measured."""
