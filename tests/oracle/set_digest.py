#!/usr/bin/env python3
"""Prints the subject digest that OpenSSF's model-signing gives a directory: set_digest.py DIR"""

import pathlib
import sys

from model_signing import hashing
from model_signing._signing import signing

# Nothing is left out: the library passes over what belongs to git by default, and a backup does not.
config = hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
manifest = config.hash(pathlib.Path(sys.argv[1]))
print(signing.Payload(manifest).statement.pb.subject[0].digest["sha256"])
