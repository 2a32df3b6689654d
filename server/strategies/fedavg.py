"""FedAvg (McMahan et al. 2017): users train for local epochs, the server averages the changes."""

from server.strategy import FederatedStrategy


class FedAvg(FederatedStrategy):
    """The base as it is: updates weighted by each user's number of sequences."""

    message_type = "train"
