"""What the global model gives away: canaries, exposure, extraction."""
