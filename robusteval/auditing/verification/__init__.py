"""How the claims of a run are checked: files, tables, claims of its manifest, and everything that can be computed
again. auditing/verify.py puts them in order."""
