"""What the server does: sample users, sum their updates, step the global model, measure it."""
