"""FedSGD (McMahan et al. 2017): one exact gradient of each user's whole data, one server step."""

from collections.abc import Mapping
from typing import ClassVar

from fedsim.search_space import Range
from server.strategy import WITHOUT_DP_SGD, FederatedStrategy


class FedSGD(FederatedStrategy):
    """Updates are minus the gradient, so the server optimizer's lr is the learning rate."""

    message_type = "train.fedsgd"
    without_effect = (
        "client.epochs",
        "client.batch_size",
        "client.lr",
        "client.lr_decay",
        "client.max_grad_norm",
        "client.proximal_mu",
    )
    mechanisms = WITHOUT_DP_SGD
    mechanisms_because = "makes no local steps"
    search: ClassVar[Mapping[str, Range]] = {}  # its learning rate is the server optimizer's
