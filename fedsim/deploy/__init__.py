"""A real deployment: a Flower SuperLink and SuperNodes, each with its own shard of the users."""
