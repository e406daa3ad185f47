"""Class transfer: new classes of a conditional GAN get their batch norm parameters from those of old classes."""

from .codes import load_code_space, picture_codes
from .critic import transfer_critic
from .data import new_classes, old_pictures
from .generator import TransferGenerator
from .kit import Kit, learn_classes
from .method import TransferMethod
from .ranks import Ranks
from .run import METHODS, TUNED, Transfer, TransferSettings, make_networks, run_transfer, similar_mixtures
from .scores import HeldOut, TransferScores, draw, settle
from .shipped import load_bn_transfer
from .stages import STAGES, ClassCost, StageRow, class_cost, penalty, set_stage, stage_table
from .start import class_means, fit_mixtures, one_hot_mixtures

__all__ = [
    "METHODS",
    "STAGES",
    "TUNED",
    "ClassCost",
    "HeldOut",
    "Kit",
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
    "learn_classes",
    "load_bn_transfer",
    "load_code_space",
    "make_networks",
    "new_classes",
    "old_pictures",
    "one_hot_mixtures",
    "penalty",
    "picture_codes",
    "run_transfer",
    "set_stage",
    "settle",
    "similar_mixtures",
    "stage_table",
    "transfer_critic",
]
