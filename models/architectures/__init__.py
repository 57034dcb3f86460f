"""Network architectures by name. One file each; all are plain Keras 2 layers on scaled frames `float32[B, T, F]`.

Importing this package does not import TensorFlow; `build`, `loss_fn` and `masked_loss` do when used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.architectures.autoencoder import AutoencoderSpec
from models.architectures.spec import ArchitectureSpec, build, context, from_dict, from_name, names
from models.architectures.tcn import TcnSpec

if TYPE_CHECKING:
    from models.architectures.loss import MaskedLoss, loss_fn

__all__ = [
    "ArchitectureSpec",
    "AutoencoderSpec",
    "MaskedLoss",
    "TcnSpec",
    "build",
    "context",
    "from_dict",
    "from_name",
    "loss_fn",
    "names",
]


def __getattr__(name: str) -> Any:
    """Give `loss_fn` and `MaskedLoss` on first use, so that naming an architecture needs no TensorFlow."""
    if name in {"loss_fn", "MaskedLoss"}:
        from models.architectures import loss

        return getattr(loss, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
