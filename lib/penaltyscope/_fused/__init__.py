"""Values, gradients and gradient norms of the built-in penalties in closed form, all at once.

A call is given as sums and slopes over fields that calls on the same tensors share: exponentials,
logarithms, products. They are laid out as straight-line programs, made once for each situation and
run on blocks of rows that fit into the cache; autograd then finds the gradient of the weighted
total ready.
"""

from penaltyscope._fused._along import along
from penaltyscope._fused._catalogue import Call, Request, may_have_form, request
from penaltyscope._fused._deferred import Deferrable, deferred
from penaltyscope._fused._evaluation import dropped_rows, masked_share
from penaltyscope._fused._form import Form, Situation, Sketch, Whole
from penaltyscope._fused._function import Plain, attach
from penaltyscope._fused._fuser import Attach, Fuser, Fusion, classes_of, full_precision
from penaltyscope._fused._groups import lasso_groups
from penaltyscope._fused._plan import Numbers, Plan, Task, make_plan
from penaltyscope._fused._product import BY_ROW, Gated
from penaltyscope._fused._program import Leaf
from penaltyscope._fused._size import elastic_net_size, l1_size, l2_size
from penaltyscope._fused._solve import Solution

__all__ = [
    "BY_ROW",
    "Attach",
    "Call",
    "Deferrable",
    "Form",
    "Fuser",
    "Fusion",
    "Gated",
    "Leaf",
    "Numbers",
    "Plain",
    "Plan",
    "Request",
    "Situation",
    "Sketch",
    "Solution",
    "Task",
    "Whole",
    "along",
    "attach",
    "classes_of",
    "deferred",
    "dropped_rows",
    "elastic_net_size",
    "full_precision",
    "l1_size",
    "l2_size",
    "lasso_groups",
    "make_plan",
    "masked_share",
    "may_have_form",
    "request",
]
