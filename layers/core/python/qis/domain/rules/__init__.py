"""Rules as data: documents in layers, the book that resolves them, and what they set."""

from qis.domain.rules.book import RuleBook, parse_rules
from qis.domain.rules.documents import layer_json, parse_layer, rule_set_json
from qis.domain.rules.model import Exclusion, Fallback, Layer, LayerRef, Level, RestatementPolicy, RuleSet
from qis.domain.rules.tolerance import Band, Tolerance, median

__all__ = [
    "Band",
    "Exclusion",
    "Fallback",
    "Layer",
    "LayerRef",
    "Level",
    "RestatementPolicy",
    "RuleBook",
    "RuleSet",
    "Tolerance",
    "layer_json",
    "median",
    "parse_layer",
    "parse_rules",
    "rule_set_json",
]
