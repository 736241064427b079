"""Many runs: jobs named by their configuration, resumed after any stop, read as one table.

``python train.py -m lambda_r=0.3,3 alpha=0.04,0.12`` runs a sweep; ``python -m tempcons.sweep`` reads it.
"""
