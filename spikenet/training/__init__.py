"""Training runs with Lightning: run folders, checkpoints that resume bit for bit, evaluation and the report."""

from spikenet.training.checkpoint import SafetensorsIO, load_tree, load_weights, save_tree, save_weights
from spikenet.training.contrastive import info_nce
from spikenet.training.early_exit import EarlyExit, Exits, Tradeoff, fit_early_exit, oracle_exit, tradeoff
from spikenet.training.evaluate import Evaluation, evaluate
from spikenet.training.fit import TrainerOptions, fit
from spikenet.training.language import NextToken, bits_per_token
from spikenet.training.measure import peak_memory, seconds_per_sample, training_memory
from spikenet.training.module import Classifier, Optimiser
from spikenet.training.report import report, write_results
from spikenet.training.run import RunFolder
from spikenet.training.seeds import batch_seed, seed_everything

__all__ = [
    "Classifier",
    "EarlyExit",
    "Evaluation",
    "Exits",
    "NextToken",
    "Optimiser",
    "RunFolder",
    "SafetensorsIO",
    "Tradeoff",
    "TrainerOptions",
    "batch_seed",
    "bits_per_token",
    "evaluate",
    "fit",
    "fit_early_exit",
    "info_nce",
    "load_tree",
    "load_weights",
    "oracle_exit",
    "peak_memory",
    "report",
    "save_tree",
    "save_weights",
    "seconds_per_sample",
    "seed_everything",
    "tradeoff",
    "training_memory",
    "write_results",
]
