"""Weights the four papers released, read by their own key names.

The checkpoints themselves are not part of this course. ``checkpoint`` reads a file without running anything in it;
``flow_names`` knows what the tensors of a Net2Net flow are called; ``flow`` puts the two together.
"""

from course_lib.released.checkpoint import read_state_dict
from course_lib.released.flow import (
    RELEASED_FLOWS,
    export_flow,
    infer_flow_config,
    load_flow,
    load_flow_state,
    select_flow_state,
)
from course_lib.released.flow_names import FlowEntry, flow_layout

__all__ = [
    "RELEASED_FLOWS",
    "FlowEntry",
    "export_flow",
    "flow_layout",
    "infer_flow_config",
    "load_flow",
    "load_flow_state",
    "read_state_dict",
    "select_flow_state",
]
