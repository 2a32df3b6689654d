"""Mechanisms that bound and noise what leaves a client, and the accounting of what ran."""
