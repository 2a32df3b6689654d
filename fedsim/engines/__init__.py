"""Engines: implementations of Flower's `Grid` that run the same two apps."""
