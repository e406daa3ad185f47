"""Class transfer: new classes of a conditional GAN get their batch norm parameters from those of old classes."""

from .critic import transfer_critic
from .data import new_classes, old_pictures
from .generator import TransferGenerator
from .method import TransferMethod
from .ranks import Ranks
from .run import METHODS, Transfer, TransferSettings, make_networks, run_transfer, similar_mixtures
from .scores import HeldOut, TransferScores, draw, settle
from .stages import STAGES, ClassCost, StageRow, class_cost, penalty, set_stage, stage_table
from .start import class_means, fit_mixtures, one_hot_mixtures

__all__ = [
    "METHODS",
    "STAGES",
    "ClassCost",
    "HeldOut",
    "Ranks",
    "StageRow",
    "Transfer",
    "TransferGenerator",
    "TransferMethod",
    "TransferScores",
    "TransferSettings",
    "class_cost",
    "class_means",
    "draw",
    "fit_mixtures",
    "make_networks",
    "new_classes",
    "old_pictures",
    "one_hot_mixtures",
    "penalty",
    "run_transfer",
    "set_stage",
    "settle",
    "similar_mixtures",
    "stage_table",
    "transfer_critic",
]
