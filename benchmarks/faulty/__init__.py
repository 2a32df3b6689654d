"""What the fault campaign and the endurance run are made of."""
