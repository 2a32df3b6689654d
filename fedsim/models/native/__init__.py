"""Local training of the LSTM and CIFG families in C, compiled on first use."""

LSTM, CIFG = 0, 1  # the families, as the C has them
