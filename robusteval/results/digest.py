"""The digest of a run: one number for its evidence and its claims, to be compared with a printed report."""

from __future__ import annotations

import hashlib
import json

from robusteval.results.manifest import Manifest


def digest(manifest: Manifest) -> str:
    """The sha256 (hexadecimal) of the manifest with its keys sorted, the checksum of each file of evidence among them.

    Two runs of one digest claim the same and rest on the same files, as long as each file has its checksum.
    """
    text = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
