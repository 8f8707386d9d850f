"""Detection of faulty claims: causal, streaming, with a small state that can be kept and restored.

Every claim is judged; none is dropped. A judgement is a credibility and the findings with their evidence,
so that a claim is filtered where it is used, never where it is stored. The tradition is that of adaptive
filters for market data: U. A. Müller, *The Olsen filter for data in finance* (2001); C. T. Brownlees and
G. M. Gallo, *Financial econometric analysis at ultra-high frequency* (CSDA 51, 2006).

``SeriesDetector`` is the whole of it for one series; the rest are its parts.
"""

from qis.domain.detection.judgement import Action, Evidence, Fault, Found, Judgement, Observation
from qis.domain.detection.rules import DetectionRules, parse_detection_rules
from qis.domain.detection.series import SeriesDetector

__all__ = [
    "Action",
    "DetectionRules",
    "Evidence",
    "Fault",
    "Found",
    "Judgement",
    "Observation",
    "SeriesDetector",
    "parse_detection_rules",
]
