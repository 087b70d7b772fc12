"""Values, gradients and gradient norms of the built-in penalties in closed form, all at once.

A call is given as sums and slopes over fields that calls on the same tensors share: exponentials,
logarithms, products. They are laid out as straight-line programs, made once for each situation and
run on blocks of rows that fit into the cache; autograd then finds the gradient of the weighted
total ready.
"""

from penaltyscope._fused._catalogue import Call, may_have_form
from penaltyscope._fused._fuser import Fuser, Fusion
from penaltyscope._fused._solve import Solution

__all__ = ["Call", "Fuser", "Fusion", "Solution", "may_have_form"]
