"""Strategies by name. Adding one is a file here and a line below."""

from server.strategies.fedavg import FedAvg
from server.strategies.fednova import FedNova
from server.strategies.fedprox import FedProx
from server.strategies.fedsgd import FedSGD
from server.strategies.geometric_median import GeometricMedian
from server.strategies.krum import Krum, MultiKrum
from server.strategies.median import Median
from server.strategies.qfedavg import QFedAvg
from server.strategies.scaffold import Scaffold
from server.strategies.server_optimizers import FedAdagrad, FedAdam, FedAvgM, FedYogi
from server.strategies.trimmed_mean import TrimmedMean
from server.strategy import STRATEGIES

__all__ = ["STRATEGIES"]

STRATEGIES.register("fedavg")(FedAvg)
STRATEGIES.register("fedsgd")(FedSGD)
STRATEGIES.register("fedprox")(FedProx)
STRATEGIES.register("fedavgm")(FedAvgM)
STRATEGIES.register("fedadam")(FedAdam)
STRATEGIES.register("fedyogi")(FedYogi)
STRATEGIES.register("fedadagrad")(FedAdagrad)
STRATEGIES.register("scaffold")(Scaffold)
STRATEGIES.register("fednova")(FedNova)
STRATEGIES.register("qfedavg")(QFedAvg)
STRATEGIES.register("trimmed-mean")(TrimmedMean)
STRATEGIES.register("median")(Median)
STRATEGIES.register("krum")(Krum)
STRATEGIES.register("multi-krum")(MultiKrum)
STRATEGIES.register("geometric-median")(GeometricMedian)
